"""PyMySQL: pure Python, text protocol only."""

import pymysql
from pymysql.constants import CLIENT

from common import *
from dbapi import Script


class PyMySQL(Script):
    module = pymysql
    sections = ("login", "text", "parameters", "batch", "blobs", "streaming", "multi", "procedure", "transaction",
                "errors", "warnings", "metadata", "load-data", "reset")  # fmt: skip
    streaming_option = {"cursor": pymysql.cursors.SSCursor}

    def connect(self, **more):
        tls = {"ssl": {"ca": CA, "verify_identity": True}} if CA else {"ssl_disabled": True}
        return pymysql.connect(host=HOST, port=PORT, user=ACCOUNT[0], password=ACCOUNT[1], database=SCHEMA,
                               charset="utf8mb4", autocommit=True, local_infile=True, max_allowed_packet=64 * MIB,
                               client_flag=CLIENT.MULTI_STATEMENTS, **tls, **more)  # fmt: skip

    def warnings(self, cursor):
        return (cursor.warning_count, self.db.show_warnings())

    def reset(self):
        self.db.ping(reconnect=False)
        self.rows("SET @here = 1")
        self.db.select_db("information_schema")
        show("schema", self.rows("SELECT DATABASE()"))
        self.db.select_db(SCHEMA)
        other = self.connect(cursorclass=pymysql.cursors.DictCursor, init_command="SET @other = 'é'")
        with other.cursor() as c:
            c.execute("SELECT @here, @other AS other, 1 AS n")
            show("another connection", c.fetchall())
        self.killed()
        other.close()


PyMySQL().run()
