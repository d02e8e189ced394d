import { assert, assertEquals } from "@std/assert";
import { utf8 } from "../bytes/mod.ts";
import { socketAddress } from "../ip/address.ts";
import { METHOD, parseStunMessage, type StunMessage, StunWriter } from "../stun/mod.ts";
import { seededRandom } from "../testing/random.ts";
import type { Millis } from "../units.ts";
import { IceAgent } from "./agent.ts";
import { Candidate } from "./candidate.ts";
import { Checks } from "./checks.ts";
import { CLIENT } from "./testing/world.ts";

const LOCAL = socketAddress("198.51.100.2:52625");
const REMOTE = socketAddress("198.51.100.3:52625");
const NOW = 1000 as Millis;

Deno.test("agents of one table find their checks by id, and take no answer to those of others", () => {
  const checks = new Checks();
  const [one, other] = [agent(checks, 1), agent(checks, 2)];
  const [toOne, toOther] = [nextAnswer(one, 1), nextAnswer(other, 2)];
  assertEquals(checks.size, 2);
  assertEquals(checks.get(toOne.transactionId)?.agent, one);
  assertEquals(checks.get(toOther.transactionId)?.agent, other);
  assert(!other.handleStun(NOW, LOCAL, REMOTE, toOne));
  assertEquals(other.drops.stranger, 1);
  assert(one.handleStun(NOW, LOCAL, REMOTE, toOne));
  assertEquals([one.state, other.state], ["connected", "checking"]);
  assertEquals(checks.get(toOne.transactionId), undefined, "it was answered");
  assert(!one.handleStun(NOW, LOCAL, REMOTE, toOne), "once");
  other.dispose();
  assertEquals(checks.get(toOther.transactionId), undefined, "nobody awaits it");
});

function agent(checks: Checks, n: number): IceAgent {
  const made = new IceAgent({
    controlling: true,
    local: { username: `us${n}`, password: "a".repeat(22) },
    remote: { username: `them${n}`, password: `${n}`.repeat(22) },
    random: seededRandom(n),
    timing: CLIENT,
    checks,
  });
  made.addLocalCandidate(NOW, Candidate.host(LOCAL));
  made.addRemoteCandidate(NOW, Candidate.host(REMOTE));
  made.handleTimeout(NOW);
  return made;
}

/** What the peer says to the check that an agent wants to send. */
function nextAnswer(agent: IceAgent, n: number): StunMessage {
  const { payload } = agent.pollTransmit()!;
  const check = parseStunMessage(payload, 0, payload.length)!;
  const bytes = new StunWriter("success", METHOD.binding, check.transactionId)
    .mappedAddress(LOCAL)
    .finish({ integrityKey: utf8(`${n}`.repeat(22)) });
  return parseStunMessage(bytes, 0, bytes.length)!;
}
