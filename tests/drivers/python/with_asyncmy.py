"""asyncmy: asyncio, text protocol."""

import asyncio

import asyncmy
from asyncmy import errors
from asyncmy.constants import CLIENT
from asyncmy.cursors import DictCursor, SSCursor

from common import *
from dbapi import Script

SETTINGS = dict(host=HOST, port=PORT, user=ACCOUNT[0], password=ACCOUNT[1], database=SCHEMA, charset="utf8mb4",
                autocommit=True, local_infile=True)  # fmt: skip


def tls():
    if not CA:
        return {}
    import ssl

    return {"ssl": ssl.create_default_context(cafile=CA)}


class Blocking:
    """What the script of the DB-API drivers calls, one coroutine at a time."""

    def __init__(self, object):
        self._object = object

    def __getattr__(self, name):
        value = getattr(self._object, name)
        if not callable(value):
            return value

        def call(*args, **named):
            result = value(*args, **named)
            return LOOP.run_until_complete(result) if asyncio.iscoroutine(result) else result

        return call

    def cursor(self, **options):
        return Blocking(self._object.cursor(**options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        LOOP.run_until_complete(self._object.close())

    def __iter__(self):
        while row := self.fetchone():
            yield row


class Asyncmy(Script):
    module = errors
    sections = ("login", "text", "parameters", "batch", "blobs", "streaming", "multi", "procedure", "transaction",
                "errors", "warnings", "metadata", "reset", "pool")  # fmt: skip
    methods = Script.methods | {"pool": "pooled"}
    largest_read = {"text": MIB}  # it gives no rows of more than one packet
    streaming_option = {"cursor": SSCursor}

    def connect(self, **more):
        connecting = asyncmy.connect(client_flag=CLIENT.MULTI_STATEMENTS, **SETTINGS, **tls(), **more)
        return Blocking(LOOP.run_until_complete(connecting.__aenter__()))

    def warnings(self, cursor):
        return (self.db.show_warnings(), super().warnings(cursor))

    def reset(self):
        self.db.ping(reconnect=False)
        self.rows("SET @here = 1")
        self.db.select_db("information_schema")
        show("schema", self.rows("SELECT DATABASE()"))
        self.db.select_db(SCHEMA)
        other = self.connect(init_command="SET @other = 'é'")
        with other.cursor(cursor=DictCursor) as c:
            c.execute("SELECT @here, @other AS other, 1 AS n")
            show("another connection", c.fetchall())
        self.killed()

    def pooled(self):
        LOOP.run_until_complete(pooled())


async def pooled():
    """Many tasks over few connections."""

    async def task(pool, n):
        async with pool.acquire() as db:
            async with db.cursor() as c:
                await c.execute("SELECT %s, %s", (n, f"é{n}"))
                return await c.fetchall()

    pool = await asyncmy.create_pool(minsize=1, maxsize=3, **SETTINGS, **tls())
    show("tasks", await asyncio.gather(*(task(pool, n) for n in range(30))))
    show("size", pool.size <= 3)
    pool.close()
    await pool.wait_closed()


LOOP = asyncio.new_event_loop()
Asyncmy().run()
