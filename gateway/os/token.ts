/**
 * Where the gateway's token comes from.
 * @module
 */

import { ConfigError, readCredential, type Secret, takeSecretEnvOrFile } from "@firezone/core/cli";

/** The variable that may hold or name the token, and the name of the systemd credential that may. */
export const TOKEN_VARIABLE = "FIREZONE_TOKEN";

/**
 * The token that was given as an argument; or else the one in the environment, which is cleared of
 * it at once, or in the file that the environment names, as containers have it; or else that of the
 * credential that systemd passes (`LoadCredential=FIREZONE_TOKEN:…`).
 *
 * @throws ConfigError if it is in none of these places
 */
export function loadToken(given?: Secret): Secret {
  const fromEnv = takeSecretEnvOrFile(TOKEN_VARIABLE);
  const token = given ?? fromEnv ?? readCredential(TOKEN_VARIABLE);
  if (token !== undefined) return token;
  throw new ConfigError(
    `Can't find the Firezone token in $${TOKEN_VARIABLE} or in a systemd credential of that ` +
      "name: the admin portal shows it when a gateway is added to a site",
  );
}
