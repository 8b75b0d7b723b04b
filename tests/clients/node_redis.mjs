// node-redis: `node_redis.mjs 2` speaks RESP2, `node_redis.mjs 3` RESP3.

import assert from "node:assert/strict";
import { ErrorReply, MultiErrorReply, RESP_TYPES, WatchError, createClient, createClientPool } from "redis";
import {
  EVERY_BYTE,
  LARGE_HASH,
  LOCKED_PORT,
  PASSWORD,
  PORT,
  comesBack,
  countScanned,
  equal,
  errors,
  eventually,
  refusal,
  run,
  shop,
  work,
} from "./checks.mjs";

const RESP = Number(process.argv[2]);

const options = ({ port = PORT, ...others } = {}) => ({
  RESP,
  socket: { host: "127.0.0.1", port, reconnectStrategy: () => 50 },
  ...others,
});

async function connect(others) {
  const client = createClient(options(others));
  client.on("error", () => {});
  return client.connect();
}

const r = await connect();
const call = (...words) => r.sendCommand(words);
const asBuffers = (client) => client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
/** A map of RESP3 has no prototype; one of RESP2 is one that the client made. */
const plain = (map) => ({ ...map });

const checks = {
  async a_connection_says_who_it_is() {
    const named = await connect({ name: "till-7" });
    equal(await named.ping(), "PONG");
    equal(await named.clientGetName(), "till-7");
    const info = await named.clientInfo();
    equal([info.name, info.libName, info.resp], ["till-7", "node-redis", RESP]);
    equal(info.id, await named.clientId());
    assert((await r.clientList()).some((client) => client.name === "till-7"));
    equal(await named.echo("héllo"), "héllo");
    await refusal(named.select(99), ErrorReply);
    await named.close();
  },

  async the_server_tells_about_itself() {
    const info = await r.info();
    assert(/redis_version:7\.2\./.test(info) && /loading:0/.test(info), info);
    equal(plain(await r.configGet("maxclients")), { maxclients: "10000" });
    const [get] = await r.commandInfo(["get"]);
    equal([get.name, get.arity], ["get", 2]);
    assert((await r.commandCount()) > 100);
    assert(Math.abs(new Date(Number((await r.time())[0]) * 1000) - Date.now()) < 60_000);
  },

  async strings() {
    equal(await r.set("s", "one"), "OK");
    equal(await r.get("s"), "one");
    equal(await r.get("nothing"), null);
    equal(await r.set("s", "two", { condition: "NX" }), null);
    equal(await r.set("s", "two", { expiration: { type: "EX", value: 100 }, GET: true }), "one");
    equal(await r.append("s", "!"), 4);
    equal(await r.getRange("s", 0, 1), "tw");
    equal(await r.incrBy("n", 41), 41);
    equal(await r.incrByFloat("f", 1.5), "1.5");
    equal(await r.mSet({ a: "1", b: "2", c: "3" }), "OK");
    equal(await r.mGet(["a", "nothing", "c"]), ["1", null, "3"]);
    equal(await r.del(["a", "b", "nothing"]), 2);
    equal(await r.exists(["a", "c"]), 1);
  },

  async hashes() {
    equal(await r.hSet("h", { one: "1", two: "2" }), 2);
    equal(plain(await r.hGetAll("h")), { one: "1", two: "2" });
    equal(plain(await r.hGetAll("nothing")), {});
    equal(await r.hmGet("h", ["one", "nothing"]), ["1", null]);
    equal(await r.hIncrBy("h", "one", 9), 10);
    equal(await r.hDel("h", "two"), 1);
    equal(await r.hRandFieldCountWithValues("h", 1), [{ field: "one", value: "10" }]);
    await r.hSet("large", LARGE_HASH);
    const found = {};
    for await (const entries of r.hScanIterator("large", { COUNT: 50 })) {
      for (const { field, value } of entries) found[field] = value;
    }
    equal(found, LARGE_HASH);
  },

  async bits() {
    equal(await r.setBit("bits", 7, 1), 0);
    equal(await r.bitCount("bits"), 1);
    equal(await r.bitPos("bits", 1), 7);
    equal(await r.bitOp("NOT", "turned", "bits"), 1);
    equal(await asBuffers(r).get("turned"), Buffer.from([0xfe]));
    const operations = [
      { operation: "SET", encoding: "u8", offset: 0, value: 250 },
      { operation: "OVERFLOW", behavior: "SAT" },
      { operation: "INCRBY", encoding: "u8", offset: 0, increment: 100 },
    ];
    equal(await r.bitField("field", operations), [0, 255]);
  },

  async expiry() {
    await r.set("soon", "1", { expiration: { type: "PX", value: 80 } });
    await r.setEx("later", 100, "1");
    assert((await r.ttl("later")) > 90);
    equal(await r.expire("later", 50, "GT"), 0);
    const at = Math.floor(Date.now() / 1000) + 1000;
    equal(await r.expireAt("later", at), 1);
    equal(await r.expireTime("later"), at);
    equal(await r.persist("later"), 1);
    equal(await r.pTTL("later"), -1);
    await new Promise((resolve) => setTimeout(resolve, 150));
    equal(await r.get("soon"), null);
  },

  async a_scan_finds_every_key() {
    const pipeline = [];
    for (let number = 0; number < 2000; number++) pipeline.push(r.set(`item:${number}`, `${number}`));
    for (let number = 0; number < 100; number++) pipeline.push(r.hSet(`cart:${number}`, "a", "1"));
    await Promise.all(pipeline);
    equal(await countScanned(r.scanIterator({ MATCH: "item:*", COUNT: 100 })), 2000);
    equal(await countScanned(r.scanIterator({ TYPE: "hash" })), 100);
  },

  async bytes_come_back_as_they_were() {
    const b = asBuffers(r);
    equal(await b.set(EVERY_BYTE, EVERY_BYTE), "OK");
    equal(await b.get(EVERY_BYTE), EVERY_BYTE);
    await b.hSet("h", EVERY_BYTE, EVERY_BYTE);
    equal(await b.hVals("h"), [EVERY_BYTE]);
    const large = Buffer.concat(Array(10_000).fill(EVERY_BYTE));
    await b.set("large", large);
    assert(large.equals(await b.get("large")));
    await r.set("empty", "");
    equal(await r.get("empty"), "");
  },

  async commands_at_once_are_a_pipeline_and_each_is_answered() {
    const replies = await Promise.all(Array.from({ length: 5000 }, (_, number) => r.incr(`counter-${number % 7}`)));
    replies.forEach((reply, number) => equal(reply, 1 + Math.floor(number / 7)));
    const unwrapped = await r.multi().set("a", "1").incr("a").execAsPipeline();
    equal(unwrapped, ["OK", 2]);
    const settled = await Promise.allSettled([r.hGet("a", "f"), r.ping()]);
    assert(settled[0].reason instanceof ErrorReply && settled[0].reason.message.startsWith("WRONGTYPE"));
    equal(settled[1].value, "PONG");
  },

  async a_transaction_is_all_or_nothing() {
    equal(await r.multi().set("a", "1").incr("a").hSet("h", "f", "v").mGet(["a", "b"]).exec(), [
      "OK",
      2,
      1,
      ["2", null],
    ]);
    const mixed = await r
      .multi()
      .incr("a")
      .hGet("a", "f")
      .incr("a")
      .exec()
      .catch((error) => error);
    assert(mixed instanceof MultiErrorReply);
    equal([mixed.errorIndexes, mixed.replies[0], mixed.replies[2]], [[1], 3, 4]);
    await refusal(r.multi().incr("a").addCommand(["NONSENSE"]).exec(), ErrorReply);
    equal(await r.get("a"), "4");
  },

  async a_watched_key_that_changes_aborts_the_transaction() {
    const own = await connect();
    await r.mSet({ watched: "1", sum: "0" });
    await own.watch("watched");
    await r.set("watched", "2");
    await refusal(own.multi().incr("sum").exec(), WatchError);
    equal(await r.get("sum"), "0");
    await own.watch("watched");
    await r.set("watched", "3");
    await own.unwatch();
    equal(await own.multi().incr("sum").exec(), [1]);
    await own.close();
  },

  async messages_reach_who_subscribed() {
    const subscriber = await connect();
    const heard = [];
    await subscriber.subscribe(["news", "weather"], (message, channel) => heard.push(`${channel}: ${message}`));
    await subscriber.pSubscribe("ne?s*", (message, channel) => heard.push(`by pattern ${channel}: ${message}`));
    equal((await r.pubSubChannels()).sort(), ["news", "weather"]);
    equal(plain(await r.pubSubNumSub(["news", "sport"])), { news: 1, sport: 0 });
    equal(await r.pubSubNumPat(), 1);
    equal(await r.publish("news", "extra"), 2);
    equal(await r.publish("sport", "1:0"), 0);
    await eventually(() => heard.length === 2);
    equal(heard.sort(), ["by pattern news: extra", "news: extra"]);
    // On RESP3 a subscriber may say other commands.
    if (RESP === 3) equal(await subscriber.get("nothing"), null);
    equal((await subscriber.ping()).toUpperCase(), "PONG");
    await subscriber.unsubscribe("news");
    equal(await r.publish("news", "again"), 1);
    await eventually(() => heard.length === 3);
    const bytes = [];
    await subscriber.subscribe("bytes", (message) => bytes.push(message), true);
    await r.publish("bytes", EVERY_BYTE);
    await eventually(() => bytes.length === 1);
    equal(bytes[0], EVERY_BYTE);
    await subscriber.sSubscribe("shard channel", (message) => heard.push(message));
    equal(await r.sPublish("shard channel", "here"), 1);
    await eventually(() => heard.length === 4);
    subscriber.destroy();
  },

  async a_pool_is_used_by_many() {
    const pool = await createClientPool(options(), { minimum: 2, maximum: 8 }).connect();
    await Promise.all(Array.from({ length: 50 }, (_, own) => work(pool, own, 20)));
    equal(await pool.get("all"), "1000");
    equal(await pool.execute(async (client) => client.multi().incr("all").exec()), [1001]);
    await pool.close();
  },

  async errors_are_error_replies() {
    await errors(call, ErrorReply);
  },

  async a_password_is_asked_for() {
    const attempt = (others) =>
      createClient({ RESP, socket: { host: "127.0.0.1", port: LOCKED_PORT, reconnectStrategy: false }, ...others })
        .on("error", () => {})
        .connect();
    assert((await refusal(attempt({ password: "wrong" }), ErrorReply)).startsWith("WRONGPASS"));
    const outside = attempt().then((client) => client.get("a"));
    assert((await refusal(outside, ErrorReply)).startsWith("NOAUTH"));
    for (const others of [{}, { username: "default" }]) {
      const inside = await attempt({ password: PASSWORD, ...others });
      equal(await inside.set("in", "1"), "OK");
      equal(await inside.get("in"), "1");
      await inside.close();
    }
  },

  async the_shop() {
    await shop(call, ErrorReply);
  },

  async a_client_comes_back_after_a_crash_of_the_server() {
    const own = await connect();
    const subscriber = await connect();
    const heard = [];
    await subscriber.subscribe("news", (message) => heard.push(message));
    await comesBack(own, (...words) => own.sendCommand(words), () => own.isReady, heard);
    own.destroy();
    subscriber.destroy();
  },
};

await run(checks, () => r.flushAll());
