"""mysqlclient: the C client library (MariaDB Connector/C), text protocol."""

import MySQLdb
import MySQLdb.cursors

from common import *
from dbapi import Script


class MySQLClient(Script):
    module = MySQLdb
    sections = ("login", "text", "parameters", "batch", "blobs", "streaming", "multi", "procedure", "transaction",
                "errors", "warnings", "metadata", "load-data", "reset")  # fmt: skip
    streaming_option = {"cursorclass": MySQLdb.cursors.SSCursor}

    def connect(self, **more):
        if CA:
            more["ssl"] = {"ca": CA}
        if COMPRESS:
            more["compress"] = True
        return MySQLdb.connect(host=HOST, port=PORT, user=ACCOUNT[0], password=ACCOUNT[1], database=SCHEMA,
                               charset="utf8mb4", autocommit=True, local_infile=1, **more)  # fmt: skip

    def warnings(self, cursor):
        return (self.db.warning_count(), self.db.info(), super().warnings(cursor))

    def reset(self):
        self.db.ping()
        show("statistics", self.db.stat().split(":")[0])
        show("host", (self.db.get_proto_info(), self.db.character_set_name()))
        self.rows("SET @here = 1")
        self.db.select_db("information_schema")
        show("schema", self.rows("SELECT DATABASE()"))
        self.db.change_user(OTHER_ACCOUNT[0], OTHER_ACCOUNT[1], SCHEMA)
        show("user", self.rows("SELECT CURRENT_USER(), DATABASE(), @here, @@autocommit"))
        self.db.change_user(*ACCOUNT, SCHEMA)
        show("user", self.rows("SELECT CURRENT_USER(), @@character_set_client"))
        refused = self.connect(init_command="SET @here = 2")
        expect_error("refused", MySQLdb.OperationalError, lambda: refused.change_user(ACCOUNT[0], "wrong", SCHEMA))
        self.killed()


MySQLClient().run()
