// ioredis, which speaks RESP2.

import assert from "node:assert/strict";
import { Redis, ReplyError } from "ioredis";
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

const connect = (options = {}) => new Redis({ port: PORT, host: "127.0.0.1", ...options });

const r = connect();
const call = (...words) => r.call(...words);

const checks = {
  async a_connection_says_who_it_is() {
    const named = connect({ connectionName: "till-7" });
    equal(await named.ping(), "PONG");
    equal(await named.client("GETNAME"), "till-7");
    const info = await named.client("INFO");
    assert(/ name=till-7 .* lib-name=ioredis /.test(info), info);
    assert((await r.client("LIST")).includes("name=till-7"));
    equal(await named.echo("héllo"), "héllo");
    await refusal(named.select(99), ReplyError);
    equal(await named.quit(), "OK");
  },

  async the_server_tells_about_itself() {
    const info = await r.info();
    assert(/redis_version:7\.2\./.test(info) && /loading:0/.test(info), info);
    equal(await r.config("GET", "maxclients"), ["maxclients", "10000"]);
    equal((await r.command("INFO", "get"))[0].slice(0, 2), ["get", 2]);
  },

  async strings() {
    equal(await r.set("s", "one"), "OK");
    equal(await r.get("s"), "one");
    equal(await r.get("nothing"), null);
    equal(await r.set("s", "two", "NX"), null);
    equal(await r.set("s", "two", "EX", 100, "GET"), "one");
    equal(await r.append("s", "!"), 4);
    equal(await r.getrange("s", 0, 1), "tw");
    equal(await r.incrby("n", 41), 41);
    equal(await r.incrbyfloat("f", 1.5), "1.5");
    equal(await r.mset({ a: 1, b: 2 }), "OK");
    equal(await r.mset(new Map([["c", "3"]])), "OK");
    equal(await r.mget("a", "nothing", "c"), ["1", null, "3"]);
    equal(await r.del("a", "b", "nothing"), 2);
    equal(await r.exists("a", "c"), 1);
  },

  async hashes() {
    equal(await r.hset("h", { one: 1, two: 2 }), 2);
    equal(await r.hgetall("h"), { one: "1", two: "2" });
    equal(await r.hgetall("nothing"), {});
    equal(await r.hmget("h", "one", "nothing"), ["1", null]);
    equal(await r.hincrby("h", "one", 9), 10);
    equal(await r.hdel("h", "two"), 1);
    await r.hset("large", LARGE_HASH);
    const found = {};
    for await (const pairs of r.hscanStream("large", { count: 50 })) {
      for (let at = 0; at < pairs.length; at += 2) found[pairs[at]] = pairs[at + 1];
    }
    equal(found, LARGE_HASH);
  },

  async bits() {
    equal(await r.setbit("bits", 7, 1), 0);
    equal(await r.bitcount("bits"), 1);
    equal(await r.bitpos("bits", 1), 7);
    equal(await r.bitop("NOT", "turned", "bits"), 1);
    equal(await r.getBuffer("turned"), Buffer.from([0xfe]));
    equal(await r.bitfield("field", "SET", "u8", 0, 250, "OVERFLOW", "SAT", "INCRBY", "u8", 0, 100), [0, 255]);
  },

  async expiry() {
    await r.set("soon", "1", "PX", 80);
    await r.set("later", "1", "EX", 100);
    assert((await r.ttl("later")) > 90);
    equal(await r.expire("later", 50, "GT"), 0);
    equal(await r.persist("later"), 1);
    equal(await r.pttl("later"), -1);
    await new Promise((resolve) => setTimeout(resolve, 150));
    equal(await r.get("soon"), null);
  },

  async a_scan_finds_every_key() {
    const pipeline = r.pipeline();
    for (let number = 0; number < 2000; number++) pipeline.set(`item:${number}`, number);
    for (let number = 0; number < 100; number++) pipeline.hset(`cart:${number}`, "a", 1);
    await pipeline.exec();
    equal(await countScanned(r.scanStream({ match: "item:*", count: 100 })), 2000);
    equal(await countScanned(r.scanStream({ type: "hash" })), 100);
  },

  async bytes_come_back_as_they_were() {
    equal(await r.set(EVERY_BYTE, EVERY_BYTE), "OK");
    equal(await r.getBuffer(EVERY_BYTE), EVERY_BYTE);
    await r.hset("h", EVERY_BYTE, EVERY_BYTE);
    equal(await r.hvalsBuffer("h"), [EVERY_BYTE]);
    const large = Buffer.concat(Array(10_000).fill(EVERY_BYTE));
    await r.set("large", large);
    assert(large.equals(await r.getBuffer("large")));
    await r.set("empty", "");
    equal(await r.get("empty"), "");
  },

  async a_pipeline_answers_each_command() {
    const pipeline = r.pipeline();
    for (let number = 0; number < 5000; number++) pipeline.incr(`counter-${number % 7}`);
    pipeline.hget("counter-0", "field").ping();
    const replies = await pipeline.exec();
    replies.slice(0, 5000).forEach((reply, number) => equal(reply, [null, 1 + Math.floor(number / 7)]));
    assert(replies[5000][0] instanceof ReplyError && replies[5000][0].message.startsWith("WRONGTYPE"));
    equal(replies[5001], [null, "PONG"]);
    const auto = connect({ enableAutoPipelining: true });
    const sums = await Promise.all(Array.from({ length: 1000 }, () => auto.incr("auto")));
    equal(sums, Array.from({ length: 1000 }, (_, number) => number + 1));
    auto.disconnect();
  },

  async a_transaction_is_all_or_nothing() {
    const replies = await r.multi().set("a", 1).incr("a").hset("h", "f", "v").mget("a", "b").exec();
    equal(replies, [[null, "OK"], [null, 2], [null, 1], [null, ["2", null]]]);
    const mixed = await r.multi().incr("a").hget("a", "f").incr("a").exec();
    equal([mixed[0], mixed[2]], [[null, 3], [null, 4]]);
    assert(mixed[1][0] instanceof ReplyError);
    const text = await refusal(r.multi().incr("a").call("NONSENSE").incr("a").exec(), ReplyError);
    assert(text.startsWith("EXECABORT"), text);
    equal(await r.get("a"), "4");
    await r.multi({ pipeline: false });
    equal(await r.incr("a"), "QUEUED");
    equal(await r.discard(), "OK");
    equal(await r.get("a"), "4");
  },

  async a_watched_key_that_changes_aborts_the_transaction() {
    const other = connect();
    await r.mset("watched", 1, "sum", 0);
    await r.watch("watched");
    await other.set("watched", 2);
    equal(await r.multi().incr("sum").exec(), null);
    equal(await r.get("sum"), "0");
    await r.watch("watched");
    await other.set("watched", 3);
    await r.unwatch();
    equal(await r.multi().incr("sum").exec(), [[null, 1]]);
    other.disconnect();
  },

  async messages_reach_who_subscribed() {
    const subscriber = connect();
    const heard = [];
    subscriber.on("message", (...message) => heard.push(message));
    subscriber.on("pmessage", (...message) => heard.push(message));
    equal(await subscriber.subscribe("news", "weather"), 2);
    equal(await subscriber.psubscribe("ne?s*"), 3);
    equal((await r.pubsub("CHANNELS")).sort(), ["news", "weather"]);
    equal(await r.pubsub("NUMSUB", "news", "sport"), ["news", 1, "sport", 0]);
    equal(await r.publish("news", "extra"), 2);
    equal(await r.publish("sport", "1:0"), 0);
    await eventually(() => heard.length === 2);
    equal(heard.sort((a, b) => a.length - b.length), [["news", "extra"], ["ne?s*", "news", "extra"]]);
    await refusal(subscriber.get("a"), Error);
    equal(await subscriber.unsubscribe("news"), 2);
    equal(await r.publish("news", "again"), 1);
    await eventually(() => heard.length === 3);
    const bytes = [];
    subscriber.on("messageBuffer", (channel, message) => bytes.push(message));
    await r.publish("weather", EVERY_BYTE);
    await eventually(() => bytes.length === 1);
    equal(bytes[0], EVERY_BYTE);
    subscriber.disconnect();
  },

  async many_clients_work_at_once() {
    const clients = Array.from({ length: 20 }, () => connect());
    await Promise.all(clients.map((client, own) => work(client, own, 50)));
    clients.forEach((client) => client.disconnect());
    equal(await r.get("all"), "1000");
  },

  async errors_are_reply_errors() {
    await errors(call, ReplyError);
  },

  async a_password_is_asked_for() {
    const attempt = (options) => {
      const client = connect({ port: LOCKED_PORT, lazyConnect: true, retryStrategy: () => null, ...options });
      client.on("error", () => {});
      return client;
    };
    for (const [options, code] of [[{}, "NOAUTH"], [{ password: "wrong" }, "WRONGPASS"]]) {
      const outside = attempt({ ...options, enableReadyCheck: false });
      const errors = [];
      outside.on("error", (error) => errors.push(error.message));
      const refused = await refusal(outside.connect().then(() => outside.get("a")), Error);
      assert([refused, ...errors].some((text) => text.startsWith(code)), `${refused} ${errors}`);
      outside.disconnect();
    }
    for (const options of [{}, { username: "default" }]) {
      const inside = attempt({ password: PASSWORD, ...options });
      equal(await inside.set("in", "1"), "OK");
      equal(await inside.get("in"), "1");
      inside.disconnect();
    }
  },

  async the_shop() {
    await shop(call, ReplyError);
    const [[failed, reply]] = await r.pipeline().call("STOCK.GET", "22423").exec();
    equal([failed, reply.slice(0, 2)], [null, ["on_hand", 10]]);
  },

  async a_client_comes_back_after_a_crash_of_the_server() {
    const own = connect({ retryStrategy: () => 50, maxRetriesPerRequest: null });
    const subscriber = connect({ retryStrategy: () => 50 });
    for (const client of [r, own, subscriber]) client.on("error", () => {});
    const heard = [];
    subscriber.on("message", (...message) => heard.push(message));
    await subscriber.subscribe("news");
    // It holds commands back by itself until it is connected.
    await comesBack(own, (...words) => own.call(...words), () => true, heard);
    own.disconnect();
    subscriber.disconnect();
  },
};

await run(checks, () => r.flushall());
