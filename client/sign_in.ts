/**
 * The sub-commands `sign-in`, which stores a token that a browser shows, and `sign-out`, which
 * removes it.
 * @module
 */

import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import {
  type Command,
  command,
  ConfigError,
  EXIT_OK,
  flag,
  option,
  type OptionSpec,
  type Secret,
  text,
  toToken,
  url,
} from "@firezone/core/cli";
import { readSecretLine } from "./os/secret_prompt.ts";

const TOKEN_MODE = 0o600;

/** What both commands say and are told; for tests. */
export interface Terminal {
  /** Shows text. */
  readonly write: (text: string) => void;
  /** Shows a question and returns the line that follows, without echo; undefined at the end of input. */
  readonly ask: (question: string) => string | undefined;
}

const TERMINAL: Terminal = {
  write: (text) => Deno.stdout.writeSync(new TextEncoder().encode(text)),
  ask: readSecretLine,
};

/** The command `sign-in`. @param tokenPath the program's own option for the token file */
export function signInCommand(
  tokenPath: OptionSpec<string>,
  terminal: Terminal = TERMINAL,
): Command {
  return command({
    name: "sign-in",
    description: "stores a token that the browser shows after signing in",
    options: {
      tokenPath,
      authBaseUrl: option({
        flags: "--auth-base-url <url>",
        env: "FIREZONE_AUTH_BASE_URL",
        description: "where people sign in",
        kind: url("https", "http"),
        default: new URL("https://app.firezone.dev/"),
      }),
      accountSlug: option({
        flags: "--account-slug <slug>",
        env: "FIREZONE_ACCOUNT_SLUG",
        description: "the account's name in addresses of web pages",
        kind: text,
      }),
    },
    run: ({ tokenPath, authBaseUrl, accountSlug }) => {
      const address = signInUrl(authBaseUrl, accountSlug).href;
      terminal.write(
        `Open this page in a browser, sign in, and copy the token that it shows:\n\n  ${address}\n\n`,
      );
      const token = toToken(terminal.ask("Token (it is not shown): ") ?? "", "what was given");
      if (token === undefined) throw new ConfigError("Cannot sign in: no token was given");
      storeToken(tokenPath, token);
      terminal.write(`The token is in ${tokenPath}. Start the client without FIREZONE_TOKEN.\n`);
      return EXIT_OK;
    },
  });
}

/** The command `sign-out`. @param tokenPath the program's own option for the token file */
export function signOutCommand(
  tokenPath: OptionSpec<string>,
  terminal: Terminal = TERMINAL,
): Command {
  return command({
    name: "sign-out",
    description: "removes the stored token",
    options: {
      tokenPath,
      force: flag({ flags: "-f, --force", description: "do not ask whether that is meant" }),
    },
    run: ({ tokenPath, force }) => {
      if (!isThere(tokenPath)) {
        terminal.write(`There is no token in ${tokenPath}.\n`);
        return EXIT_OK;
      }
      if (!force) {
        const answer = terminal.ask(`Remove ${tokenPath}? Type yes: `);
        if (answer?.trim().toLowerCase() !== "yes") {
          throw new ConfigError("Cannot sign out: it was not confirmed; --force does not ask");
        }
      }
      removeToken(tokenPath);
      terminal.write(
        `The token in ${tokenPath} is gone. A client that runs goes on until it ends.\n`,
      );
      return EXIT_OK;
    },
  });
}

/** The page on which a browser shows a token: `https://app.firezone.dev/acme?as=headless-client`. */
export function signInUrl(base: URL, accountSlug: string | undefined): URL {
  const page = new URL(base);
  if (accountSlug !== undefined) page.pathname = `/${encodeURIComponent(accountSlug)}`;
  page.searchParams.set("as", "headless-client");
  return page;
}

/** Writes the file anew, readable by its owner alone from its first moment on. */
function storeToken(path: string, token: Secret): void {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    Deno.mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    try {
      Deno.writeTextFileSync(temporary, `${token.reveal()}\n`, {
        createNew: true,
        mode: TOKEN_MODE,
      });
      Deno.renameSync(temporary, path);
    } catch (error) {
      if (isThere(temporary)) Deno.removeSync(temporary);
      throw error;
    }
  } catch (error) {
    throw new ConfigError(`Cannot write ${path}: run as root, or name another --token-path`, {
      cause: error,
    });
  }
}

function removeToken(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    throw new ConfigError(`Cannot remove ${path}: run as root`, { cause: error });
  }
}

function isThere(path: string): boolean {
  try {
    return Deno.lstatSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw new ConfigError(`Cannot look at ${path}`, { cause: error });
  }
}
