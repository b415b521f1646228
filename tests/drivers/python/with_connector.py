"""MySQL Connector/Python: with_connector.py pure|c, its two implementations."""

import datetime
import sys
import warnings

import mysql.connector
from mysql.connector import pooling
from mysql.connector.constants import FieldType

from common import *
from dbapi import Script

warnings.simplefilter("ignore", DeprecationWarning)  # stored_results has no successor yet
PURE = sys.argv[1] == "pure"


class Connector(Script):
    module = mysql.connector
    sections = ("login", "text", "parameters", "prepared", "batch", "blobs", "blobs-prepared", "streaming", "multi",
                "procedure", "transaction", "errors", "warnings", "metadata", "load-data", "reset", "pool")  # fmt: skip
    # The pure one can't read a YEAR in the binary protocol.
    shown = "id, " + Script.columns.replace(" y,", " y + 0,")
    later_error = None if PURE else mysql.connector.connection_cext._mysql_connector.MySQLInterfaceError
    # Nor a row of more than one packet there.
    survives_missing_file = not PURE
    largest_read = {"text": 17 * MIB, "prepared": MIB if PURE else 17 * MIB}
    methods = Script.methods | {"pool": "pooled"}
    streaming_option = {"buffered": False}
    prepared_option = {"prepared": True}

    # An empty statement is not sent.
    failing = [one for one in Script.failing if one[1]]

    def values(self):
        # The C extension binds no integer above 2^63 - 1 and no timedelta, and a float with single precision.
        def bindable(value):
            if isinstance(value, datetime.timedelta):
                return datetime.time(1, 2, 3, 4)
            if isinstance(value, float) and value < -1e38:
                return -(2.0**90)
            return min(value, 2**63 - 1) if isinstance(value, int) else value

        return tuple(bindable(value) for value in super().values())

    def settings(self, **more):
        tls = {"ssl_ca": CA, "ssl_verify_identity": True} if CA else {"ssl_disabled": True}
        return dict(host=HOST, port=PORT, user=ACCOUNT[0], password=ACCOUNT[1], database=SCHEMA, charset="utf8mb4",
                    autocommit=True, allow_local_infile=True, use_pure=PURE, compress=COMPRESS, **tls, **more)  # fmt: skip

    def connect(self, **more):
        return mysql.connector.connect(**self.settings(**more))

    def connection_id(self):
        return self.db.connection_id

    def server_version(self):
        return self.db.server_info

    def warnings(self, cursor):
        return (cursor.warning_count, super().warnings(cursor))

    def column(self, description):
        return (FieldType.get_info(description[1]), description[2:])

    def results(self, c):
        for statement, rows in c.fetchsets():
            show("result", (c.column_names, rows, c.rowcount))

    def call(self):
        with self.db.cursor() as c:
            show("arguments", c.callproc("counted", (20, 0)))
            for result in c.stored_results():
                show("result", (result.column_names, result.fetchall()))

    def reset(self):
        self.db.ping(reconnect=False)
        show("statistics", "Uptime" in self.db.cmd_statistics())
        self.rows("SET @here = 1")
        self.db.database = "information_schema"
        show("schema", self.rows("SELECT DATABASE()"))
        self.db.cmd_reset_connection()
        show("reset", self.rows("SELECT @here, DATABASE()"))
        if not (COMPRESS and PURE):  # it refuses this itself
            self.db.cmd_change_user(*OTHER_ACCOUNT, SCHEMA)
            show("user", self.rows("SELECT CURRENT_USER(), DATABASE()"))
            self.db.cmd_change_user(*ACCOUNT, SCHEMA)
        self.db.reset_session(user_variables={"here": 5}, session_variables={"sql_mode": "ANSI"})
        show("session", self.rows('SELECT @here, "id", @@sql_mode FROM (SELECT 1 AS id) AS one'))
        self.killed()

    def pooled(self):
        pool = pooling.MySQLConnectionPool(pool_size=2, pool_reset_session=not COMPRESS, **self.settings())
        first = pool.get_connection()
        second = pool.get_connection()
        expect_error("exhausted", mysql.connector.errors.PoolError, pool.get_connection)
        with first.cursor() as c:
            c.execute("SET @here = 1, sql_mode = 'ANSI'")
        id = first.connection_id
        first.close()
        again = pool.get_connection()
        with again.cursor() as c:
            c.execute("SELECT @here, @@sql_mode = @@GLOBAL.sql_mode")
            show("from the pool again", (c.fetchall(), again.connection_id == id))
        again.close()
        second.close()


Connector().run()
