// Runs the checks of a script, and says how they went; and what scripts check alike.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createInterface } from "node:readline";

export const PORT = Number(process.env.SERVER_PORT);
export const LOCKED_PORT = Number(process.env.LOCKED_PORT);
export const PASSWORD = process.env.PASSWORD;

export const equal = assert.deepEqual;

const input = createInterface({ input: process.stdin });

/** Has the server killed, and started again on its data. */
async function restartServer() {
  console.log("restart");
  const [answer] = await once(input, "line");
  equal(answer, "restarted");
}

/** Asks again and again until the answer is true. */
export async function eventually(question) {
  for (let tries = 0; tries < 2000; tries++) {
    if (await question()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`in vain: ${question}`);
}

/** The map that is the flat list of its pairs on RESP2. */
export function asMap(reply) {
  if (!Array.isArray(reply)) return { ...reply };
  const map = {};
  for (let at = 0; at < reply.length; at += 2) map[reply[at]] = reply[at + 1];
  return map;
}

/** The text of the error that a promise must end with. */
export async function refusal(promise, errorClass) {
  const error = await promise.then(
    (reply) => assert.fail(`${JSON.stringify(reply)} instead of ${errorClass.name}`),
    (error) => error,
  );
  assert(error instanceof errorClass, `${error.stack} instead of ${errorClass.name}`);
  return error.message;
}

/** Every byte there is. */
export const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

/** A hash of many fields. */
export const LARGE_HASH = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`field-${n}`, `${n}`]));

/** How many different keys a scan gives, page by page. */
export async function countScanned(pages) {
  const found = new Set();
  for await (const keys of pages) keys.forEach((key) => found.add(key));
  return found.size;
}

/** One of many who work at once: it finds what it has written, and counts in `all`. */
export async function work(client, own, rounds) {
  for (let number = 0; number < rounds; number++) {
    await client.set(`own-${own}`, `${own}:${number}`);
    equal(await client.get(`own-${own}`), `${own}:${number}`);
    await client.incr("all");
  }
}

/** What the server refuses is an `errorClass` with its words; `call` is as that of the shop. */
export async function errors(call, errorClass) {
  const refused = (...words) => refusal(call(...words), errorClass);
  await call("SET", "text", "x");
  assert((await refused("HGET", "text", "f")).startsWith("WRONGTYPE"));
  equal(await refused("INCR", "text"), "ERR value is not an integer or out of range");
  assert((await refused("NONSENSE", "a")).startsWith("ERR unknown command 'NONSENSE'"));
  equal(await refused("GET"), "ERR wrong number of arguments for 'get' command");
}

/**
 * After a crash of the server `client` goes on with what it had, and who had subscribed to `news` gets messages, which
 * are put into `heard`. `isReady` says when commands can be sent again.
 */
export async function comesBack(client, call, isReady, heard) {
  await client.set("kept", "1");
  const before = await call("STOCK.GET", "22423");
  const runId = /run_id:(\w+)/.exec(await client.info("server"))[1];
  await restartServer();
  await eventually(isReady);
  equal(await client.get("kept"), "1");
  equal(await call("STOCK.GET", "22423"), before);
  assert(!(await client.info("server")).includes(runId));
  await eventually(async () => (await client.publish("news", "I am back")) === 1);
  await eventually(() => heard.length === 1);
}

/**
 * The shop, called as the client lets one call any command: `call` takes the words, as strings, and gives a promise of
 * the reply; what it refuses with is of `errorClass`.
 */
export async function shop(call, errorClass) {
  const refused = async (...words) => (await refusal(call(...words), errorClass)).split(" ")[0];
  equal(await call("ITEM.PUT", "22423", "1275", "GBP", "NAME", "REGENCY CAKESTAND", "LIMIT", "9"), "OK");
  const item = asMap(await call("ITEM.GET", "22423"));
  equal([item.price, item.name, item.limit], [1275, "REGENCY CAKESTAND", 9]);
  equal(await call("STOCK.ADD", "22423", "10"), 10);
  const cart = ["CHECKOUT", "ann", "KEY", "basket-1", "LINES", "1", "22423", "3"];
  const placed = asMap(await call(...cart));
  equal([placed.state, placed.total, placed.currency, placed.expires_at], ["placed", 3825, "GBP", 0]);
  equal(asMap(await call(...cart)), placed);
  const level = { on_hand: 10, held: 0, committed: 3, available: 7 };
  equal(asMap(await call("STOCK.GET", "22423")), level);
  const order = asMap(await call("ORDER.GET", String(placed.id)));
  equal([order.customer, order.state, order.lines.map((line) => asMap(line).sku)], ["ann", "placed", ["22423"]]);
  equal(await refused("CHECKOUT", "bob", "KEY", "b", "LINES", "1", "22423", "8"), "OUTOFSTOCK");
  equal(await refused("CHECKOUT", "ann", "KEY", "basket-1", "LINES", "1", "22423", "4"), "CONFLICT");
  equal(await refused("CHECKOUT", "ann", "KEY", "c", "LINES", "1", "22423", "7"), "LIMIT");
  equal(await refused("CHECKOUT", "ann", "KEY", "d", "LINES", "1", "nothing", "1"), "NOITEM");
  const held = asMap(await call("CHECKOUT", "bob", "KEY", "h", "HOLD", "60000", "LINES", "1", "22423", "2"));
  assert(held.state === "held" && held.expires_at > Date.now());
  equal(await call("ORDER.CONFIRM", String(held.id)), "placed");
  equal(await call("ORDER.CANCEL", String(held.id)), "cancelled");
  equal(await call("ORDER.GET", "1"), null);
  const orders = await call("ORDER.LIST", "ann");
  equal(orders.map((order) => asMap(order).id), [placed.id]);
  const carts = [0, 1, 2, 3].map((number) => call("CHECKOUT", "cat", "KEY", `${number}`, "LINES", "1", "22423", "1"));
  equal((await Promise.all(carts)).map((order) => asMap(order).state), Array(4).fill("placed"));
  const audit = asMap(await call("AUDIT"));
  equal([audit.items, audit.orders, audit.violations], [1, 6, 0]);
}

/** Runs all checks, and ends the process. */
export async function run(checks, beforeEach) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await beforeEach();
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}\n${error.stack}`);
    }
  }
  if (failed === 0) console.log(`checked ${Object.keys(checks).length}`);
  process.exit(failed === 0 ? 0 : 1);
}
