"""redis-py: `redis_py.py 2` speaks RESP2, `redis_py.py 3` RESP3."""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
from checks import LOCKED_PORT, PASSWORD, PORT, check, restart_server, run
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

PROTOCOL = int(sys.argv[1])
HOST = "127.0.0.1"


def client(**options):
    return redis.Redis(host=HOST, port=PORT, protocol=PROTOCOL, **options)


r = client(decode_responses=True)
raw = client()


def as_map(reply):
    """A map of the shop: on RESP2 the flat list of its pairs."""
    if PROTOCOL == 3:
        assert isinstance(reply, dict), reply
        return reply
    assert isinstance(reply, list), reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def refusal(error, function, *arguments, **options):
    """The text of the error that a call must raise."""
    try:
        reply = function(*arguments, **options)
    except error as refused:
        assert type(refused) is error, repr(refused)
        return str(refused)
    raise AssertionError(f"{reply!r} instead of {error.__name__}")


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


@check
def a_connection_says_who_it_is():
    with client(client_name="till-7", decode_responses=True) as named:
        equal(named.ping(), True)
        equal(named.client_getname(), "till-7")
        info = named.client_info()
        equal(info["name"], "till-7")
        equal(info["lib-name"].split("(")[0], "redis-py")
        equal(info["lib-ver"], redis.__version__)
        equal(int(info["resp"]), PROTOCOL)
        equal(info["id"], named.client_id())
        assert any(other["name"] == "till-7" for other in r.client_list())
    hello = r.execute_command("HELLO", PROTOCOL)
    hello = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    equal((hello["proto"], hello["server"], hello["role"]), (PROTOCOL, "redis", "master"))
    equal(r.echo("héllo"), "héllo")
    equal(r.select(0), True)
    refusal(redis.ResponseError, r.select, 99)


@check
def the_server_tells_about_itself():
    info = r.info()
    assert info["redis_version"].startswith("7.2."), info["redis_version"]
    equal(info["loading"], 0)
    equal(info["tcp_port"], PORT)
    raw.ping()
    assert r.info("clients")["connected_clients"] >= 2
    equal(r.config_get("maxclients"), {"maxclients": "10000"})
    r.config_set("slowlog-max-len", 77)
    equal(r.config_get("slowlog-*")["slowlog-max-len"], "77")
    assert r.command_count() > 100
    equal(r.command()["get"]["arity"], 2)
    seconds, microseconds = r.time()
    assert abs(seconds - time.time()) < 60 and 0 <= microseconds < 1_000_000
    assert isinstance(r.slowlog_get(5), list)
    equal(r.memory_usage("nothing"), None)
    assert r.lastsave() is not None


@check
def strings():
    equal(r.set("s", "one"), True)
    equal(r.get("s"), "one")
    equal(r.get("nothing"), None)
    equal(r.set("s", "two", nx=True), None)
    equal(r.set("s", "two", get=True), "one")
    equal(r.set("s", "three", xx=True, keepttl=True), True)
    equal(r.append("s", "!"), 6)
    equal(r.getrange("s", 0, 2), "thr")
    equal(r.setrange("s", 0, "TH"), 6)
    equal(r.get("s"), "THree!")
    equal(r.strlen("s"), 6)
    equal(r.getset("s", "x"), "THree!")
    equal(r.getdel("s"), "x")
    equal(r.incr("n"), 1)
    equal(r.incrby("n", 41), 42)
    equal(r.decr("n", 2), 40)
    equal(r.incrbyfloat("f", 1.5), 1.5)
    equal(r.mset({"a": 1, "b": 2, "c": 3}), True)
    equal(r.mget("a", "nothing", "c"), ["1", None, "3"])
    equal(r.msetnx({"c": 4, "d": 4}), False)
    equal(r.exists("a", "b", "nothing"), 2)
    equal(r.lcs("a", "b"), "")
    equal(r.delete("a", "b", "nothing"), 2)
    equal(r.unlink("c"), 1)


@check
def keys():
    r.mset({"k1": "1", "k2": "2"})
    equal(r.type("k1"), "string")
    equal(r.type("nothing"), "none")
    equal(r.rename("k1", "k3"), True)
    equal(r.renamenx("k3", "k2"), False)
    equal(r.copy("k3", "k4"), True)
    equal(sorted(r.keys("k*")), ["k2", "k3", "k4"])
    assert r.randomkey() in {"k2", "k3", "k4"}
    equal(r.touch("k2", "nothing"), 1)
    equal(r.object("encoding", "k2"), "int")
    equal(r.dbsize(), 3)
    dumped = raw.dump("k2")
    equal(raw.restore("k5", 0, dumped), b"OK")
    equal(r.get("k5"), "2")
    equal(r.flushdb(), True)
    equal(r.dbsize(), 0)


@check
def hashes():
    equal(r.hset("h", mapping={"one": 1, "two": 2}), 2)
    equal(r.hset("h", "two", "zwei"), 0)
    equal(r.hgetall("h"), {"one": "1", "two": "zwei"})
    equal(r.hgetall("nothing"), {})
    equal(r.hmget("h", "one", "nothing"), ["1", None])
    equal(r.hincrby("h", "one", 9), 10)
    equal(r.hincrbyfloat("h", "share", 0.25), 0.25)
    equal(r.hexists("h", "two"), True)
    equal(r.hsetnx("h", "two", 2), False)
    equal(sorted(r.hkeys("h")), ["one", "share", "two"])
    equal(sorted(r.hvals("h")), ["0.25", "10", "zwei"])
    equal(r.hlen("h"), 3)
    equal(r.hstrlen("h", "two"), 4)
    equal(r.hdel("h", "share", "nothing"), 1)
    equal(r.hrandfield("h") in {"one", "two"}, True)
    equal(sorted(r.hrandfield("h", 5)), ["one", "two"])
    r.hset("large", mapping={f"field-{number}": number for number in range(1000)})
    equal(dict(r.hscan_iter("large", count=50)), {f"field-{number}": str(number) for number in range(1000)})


@check
def bits():
    equal(r.setbit("bits", 7, 1), 0)
    equal(r.getbit("bits", 7), 1)
    equal(r.bitcount("bits"), 1)
    equal(r.bitpos("bits", 1), 7)
    raw.set("other", b"\xf0")
    equal(r.bitop("OR", "union", "bits", "other"), 1)
    equal(raw.get("union"), b"\xf1")
    field = r.bitfield("field", default_overflow="SAT")
    equal(field.set("u8", 0, 250).incrby("u8", 0, 100).get("u8", 0).execute(), [0, 255, 255])


@check
def expiry():
    r.set("soon", "1", px=80)
    r.set("later", "1", ex=100)
    equal(r.execute_command("SETEX", "later still", 200, "1"), True)
    assert 90 <= r.ttl("later") <= 100
    assert 90_000 <= r.pttl("later") <= 100_000
    equal(r.ttl("nothing"), -2)
    equal(r.expire("later", 50, gt=True), False)
    equal(r.expire("later", 500, gt=True), True)
    equal(r.persist("later"), True)
    equal(r.ttl("later"), -1)
    at = int(time.time()) + 1000
    equal(r.expireat("later", at), True)
    equal(r.expiretime("later"), at)
    equal(r.getex("later", persist=True), "1")
    time.sleep(0.15)
    equal(r.get("soon"), None)
    equal(r.dbsize(), 2)


@check
def a_scan_finds_every_key():
    with r.pipeline(transaction=False) as pipeline:
        for number in range(2000):
            pipeline.set(f"item:{number}", number)
        for number in range(100):
            pipeline.hset(f"cart:{number}", "a", 1)
        pipeline.execute()
    equal(set(r.scan_iter("item:*", count=100)), {f"item:{number}" for number in range(2000)})
    equal(set(r.scan_iter(_type="HASH", count=500)), {f"cart:{number}" for number in range(100)})


@check
def bytes_come_back_as_they_were():
    every = bytes(range(256))
    equal(raw.set(every, every + b"\r\n$-1\r\n"), True)
    equal(raw.get(every), every + b"\r\n$-1\r\n")
    equal(raw.hset(b"h\0", every, every), 1)
    equal(raw.hgetall(b"h\0"), {every: every})
    large = every * 10_000
    raw.set("large", large)
    equal(raw.get("large"), large)
    raw.set("empty", b"")
    equal(raw.get("empty"), b"")


@check
def a_pipeline_answers_each_command():
    with r.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.incr(f"counter-{number % 7}")
        pipeline.get("counter-0").hget("counter-0", "field").ping()
        replies = pipeline.execute(raise_on_error=False)
    equal(replies[:5000], [1 + number // 7 for number in range(5000)])
    equal(replies[5000], "715")
    assert isinstance(replies[5001], redis.ResponseError), replies[5001]
    equal(replies[5002], True)
    with r.pipeline(transaction=False) as pipeline:
        pipeline.hget("counter-0", "field")
        assert "WRONGTYPE" in refusal(redis.ResponseError, pipeline.execute)


@check
def a_transaction_is_all_or_nothing():
    with r.pipeline(transaction=True) as pipeline:
        replies = pipeline.set("a", 1).incr("a").hset("h", "f", "v").mget("a", "b").execute()
    equal(replies, [True, 2, 1, ["2", None]])
    with r.pipeline(transaction=True) as pipeline:
        pipeline.incr("a").hget("a", "f").incr("a")
        replies = pipeline.execute(raise_on_error=False)
    equal((replies[0], replies[2]), (3, 4))
    assert isinstance(replies[1], redis.ResponseError)
    with r.pipeline(transaction=True) as pipeline:
        pipeline.incr("a").execute_command("NONSENSE").incr("a")
        assert "unknown command" in refusal(redis.ResponseError, pipeline.execute)
    equal(r.get("a"), "4")


@check
def a_watched_key_that_changes_aborts_the_transaction():
    r.mset({"watched": 1, "sum": 0})
    with r.pipeline() as pipeline:
        pipeline.watch("watched", "sum")
        equal(pipeline.get("watched"), "1")
        raw.set("watched", 2)
        pipeline.multi()
        pipeline.incr("sum")
        refusal(redis.WatchError, pipeline.execute)
        equal(r.get("sum"), "0")
        pipeline.watch("watched")
        raw.set("watched", 3)
        pipeline.unwatch()
        pipeline.multi()
        pipeline.incr("sum")
        equal(pipeline.execute(), [1])


@check
def transactions_of_many_clients_lose_no_update():
    r.set("balance", 0)

    def add(pipeline):
        found = int(pipeline.get("balance"))
        pipeline.multi()
        pipeline.set("balance", found + 1)

    def work():
        with client() as own:
            for _ in range(20):
                own.transaction(add, "balance")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(r.get("balance"), "80")


def messages(pubsub, count):
    """The next so many messages."""
    found = []
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline, found
        message = pubsub.get_message(timeout=1)
        if message is not None:
            found.append((message["type"], message["pattern"], message["channel"], message["data"]))
    return found


@check
def messages_reach_who_subscribed():
    with r.pubsub() as pubsub:
        pubsub.subscribe("news", "weather")
        pubsub.psubscribe("ne?s*")
        equal(
            messages(pubsub, 3),
            [
                ("subscribe", None, "news", 1),
                ("subscribe", None, "weather", 2),
                ("psubscribe", None, "ne?s*", 3),
            ],
        )
        equal(sorted(r.pubsub_channels()), ["news", "weather"])
        equal([tuple(pair) for pair in r.pubsub_numsub("news", "sport")], [("news", 1), ("sport", 0)])
        equal(r.pubsub_numpat(), 1)
        equal(r.publish("news", "extra"), 2)
        equal(
            sorted(messages(pubsub, 2), key=str),
            sorted([("message", None, "news", "extra"), ("pmessage", "ne?s*", "news", "extra")], key=str),
        )
        equal(r.publish("sport", "1:0"), 0)
        if PROTOCOL == 2:  # On RESP3 redis-py takes the answer of any server apart.
            pubsub.ping()
            equal(messages(pubsub, 1)[0][0], "pong")
        pubsub.unsubscribe("news")
        equal(messages(pubsub, 1), [("unsubscribe", None, "news", 2)])
        equal(r.publish("news", "again"), 1)
        equal(messages(pubsub, 1), [("pmessage", "ne?s*", "news", "again")])
    heard = []
    with raw.pubsub() as pubsub:
        pubsub.subscribe(**{"handled": heard.append})
        listener = pubsub.run_in_thread(sleep_time=0.01)
        deadline = time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            raw.publish("handled", b"\x00\xff")
            time.sleep(0.01)
        listener.stop()
        listener.join()
    equal(heard[0]["data"], b"\x00\xff")


@check
def a_transaction_publishes_when_it_is_done():
    with r.pubsub() as pubsub:
        pubsub.subscribe("orders")
        messages(pubsub, 1)
        with r.pipeline() as pipeline:
            equal(pipeline.set("order", 1).publish("orders", "placed").execute(), [True, 1])
        equal(messages(pubsub, 1), [("message", None, "orders", "placed")])


@check
def a_pool_is_shared_by_threads():
    pool = redis.BlockingConnectionPool(
        host=HOST, port=PORT, protocol=PROTOCOL, max_connections=5, timeout=20, decode_responses=True
    )
    shared = redis.Redis(connection_pool=pool)
    wrong = []

    def work(thread):
        for number in range(50):
            key = f"pool-{thread}-{number % 5}"
            shared.set(key, f"{thread}:{number}")
            if shared.get(key) != f"{thread}:{number}":
                wrong.append(key)
            shared.incr("pool-sum")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(wrong, [])
    equal(shared.get("pool-sum"), "800")
    assert len(pool._connections) <= 5
    pool.disconnect()


@check
def errors_have_their_classes():
    r.set("text", "x")
    assert "WRONGTYPE" in refusal(redis.ResponseError, r.hget, "text", "f")
    assert "not an integer" in refusal(redis.ResponseError, r.incr, "text")
    assert "unknown command 'NONSENSE'" in refusal(redis.ResponseError, r.execute_command, "NONSENSE", "a")
    assert "wrong number of arguments" in refusal(redis.ResponseError, r.execute_command, "GET")
    closed = redis.Redis(host=HOST, port=1, protocol=PROTOCOL, retry=None)
    refusal(redis.ConnectionError, closed.ping)


@check
def a_password_is_asked_for():
    def locked(**options):
        return redis.Redis(host=HOST, port=LOCKED_PORT, protocol=PROTOCOL, decode_responses=True, **options)

    once = Retry(NoBackoff(), 0)
    refusal(redis.AuthenticationError, locked(retry=once).ping)
    refusal(redis.AuthenticationError, locked(retry=once, password="wrong").ping)
    refusal(redis.AuthenticationError, locked(retry=once, username="ann", password=PASSWORD).ping)
    for options in ({}, {"username": "default"}):
        with locked(password=PASSWORD, **options) as inside:
            equal(inside.set("in", 1), True)
            inside.connection_pool.disconnect()
            equal(inside.get("in"), "1")
    with redis.Redis.from_url(
        f"redis://default:{PASSWORD.replace(' ', '%20')}@{HOST}:{LOCKED_PORT}/0?protocol={PROTOCOL}"
    ) as inside:
        equal(inside.ping(), True)


@check
def asyncio_works_too():
    async def main():
        pool = redis.asyncio.BlockingConnectionPool(
            host=HOST, port=PORT, protocol=PROTOCOL, max_connections=20, decode_responses=True
        )
        async with redis.asyncio.Redis.from_pool(pool) as a:
            await asyncio.gather(*(a.incr("async") for _ in range(200)))
            equal(await a.get("async"), "200")
            async with a.pipeline(transaction=True) as pipeline:
                equal(await pipeline.incr("async").hset("async-h", "f", "v").execute(), [201, 1])
            async with a.pipeline() as pipeline:
                await pipeline.watch("async")
                await a.incr("async")
                pipeline.multi()
                pipeline.incr("async")
                try:
                    await pipeline.execute()
                    raise AssertionError("it was not aborted")
                except redis.WatchError:
                    pass
            async with a.pubsub() as pubsub:
                await pubsub.subscribe("async-news")
                equal((await pubsub.get_message(timeout=20))["type"], "subscribe")
                equal(await a.publish("async-news", "hello"), 1)
                equal((await pubsub.get_message(timeout=20))["data"], "hello")

    asyncio.run(main())


@check
def the_shop():
    equal(r.execute_command("ITEM.PUT", "22423", 1275, "GBP", "NAME", "REGENCY CAKESTAND", "LIMIT", 9), "OK")
    item = as_map(r.execute_command("ITEM.GET", "22423"))
    equal((item["price"], item["name"], item["limit"]), (1275, "REGENCY CAKESTAND", 9))
    equal(r.execute_command("STOCK.ADD", "22423", 10), 10)
    cart = ("CHECKOUT", "ann", "KEY", "basket-1", "LINES", 1, "22423", 3)
    placed = as_map(r.execute_command(*cart))
    equal((placed["state"], placed["total"], placed["currency"], placed["expires_at"]), ("placed", 3825, "GBP", 0))
    equal(as_map(r.execute_command(*cart)), placed)
    stock = as_map(r.execute_command("STOCK.GET", "22423"))
    equal(stock, {"on_hand": 10, "held": 0, "committed": 3, "available": 7})
    order = as_map(r.execute_command("ORDER.GET", placed["id"]))
    equal((order["customer"], order["state"]), ("ann", "placed"))
    equal([as_map(line)["sku"] for line in order["lines"]], ["22423"])

    def refused(*words):
        return refusal(redis.ResponseError, r.execute_command, *words)

    equal(refused("CHECKOUT", "bob", "KEY", "b", "LINES", 1, "22423", 8).split()[0], "OUTOFSTOCK")
    equal(refused("CHECKOUT", "ann", "KEY", "basket-1", "LINES", 1, "22423", 4).split()[0], "CONFLICT")
    equal(refused("CHECKOUT", "ann", "KEY", "c", "LINES", 1, "22423", 7).split()[0], "LIMIT")
    equal(refused("CHECKOUT", "ann", "KEY", "d", "LINES", 1, "nothing", 1).split()[0], "NOITEM")
    equal(refused("STOCK.ADD", "22423", -8).split()[0], "INSUFFICIENT")
    held = as_map(r.execute_command("CHECKOUT", "bob", "KEY", "h", "HOLD", 60_000, "LINES", 1, "22423", 2))
    equal(held["state"], "held")
    assert held["expires_at"] > time.time() * 1000
    equal(r.execute_command("ORDER.CONFIRM", held["id"]), "placed")
    equal(r.execute_command("ORDER.CANCEL", held["id"]), "cancelled")
    equal(refused("ORDER.CONFIRM", held["id"]).split()[0], "STATE")
    equal(r.execute_command("ORDER.GET", 1), None)
    orders = r.execute_command("ORDER.LIST", "ann", "COUNT", 10)
    equal([as_map(order)["id"] for order in orders], [placed["id"]])
    with r.pipeline(transaction=False) as pipeline:
        for number in range(4):
            pipeline.execute_command("CHECKOUT", "cat", "KEY", f"cat-{number}", "LINES", 1, "22423", 1)
        equal([as_map(order)["state"] for order in pipeline.execute()], ["placed"] * 4)
    with r.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("STOCK.GET", "22423")
        refusal(redis.ResponseError, pipeline.execute)
    r.flushall()
    audit = as_map(r.execute_command("AUDIT"))
    equal((audit["items"], audit["orders"], audit["violations"]), (1, 6, 0))


@check
def a_client_comes_back_after_a_crash_of_the_server():
    own = client(decode_responses=True, retry=Retry(ConstantBackoff(0.05), 100), retry_on_error=[redis.ConnectionError])
    own.set("kept", "1")
    own.hset("kept-hash", "field", "value")
    before = as_map(own.execute_command("STOCK.GET", "22423"))
    run_id = own.info("server")["run_id"]
    with own.pubsub() as pubsub:
        pubsub.subscribe("news")
        messages(pubsub, 1)
        restart_server()
        equal(own.get("kept"), "1")
        equal(own.hgetall("kept-hash"), {"field": "value"})
        equal(as_map(own.execute_command("STOCK.GET", "22423")), before)
        assert own.info("server")["run_id"] != run_id
        equal(messages(pubsub, 1)[0][:3], ("subscribe", None, "news"))
        equal(own.publish("news", "I am back"), 1)
        equal(messages(pubsub, 1), [("message", None, "news", "I am back")])


run(before_each=r.flushall)
