"""The script for drivers with the DB-API. A driver's own program gives the class that knows how it differs."""

import datetime
import decimal
import time

from common import *


class Script:
    """`connect` and the class attributes are the driver's; the methods are the sections that every driver has."""

    module = None  # the DB-API module
    methods = {"warnings": "warnings_"}
    prepared_option = None  # cursor(**prepared_option) prepares on the server

    def connect(self, **more):
        raise NotImplementedError

    later_error = None  # what a statement after the first fails with, if it is something special
    survives_missing_file = True
    largest_read = {"text": 17 * MIB, "prepared": 17 * MIB}

    def warnings(self, cursor):
        cursor.execute("SHOW WARNINGS")
        return cursor.fetchall()

    def column(self, description):
        return description

    def run(self):
        self.db = self.connect()
        if MODE == "bound":
            self.bound()
        else:
            for name in self.sections:
                section(name)
                getattr(self, self.methods.get(name, name.replace("-", "_")))()
        self.db.close()
        done()

    def rows(self, statement, params=None, **cursor):
        with self.db.cursor(**cursor) as c:
            c.execute(statement, params) if params is not None else c.execute(statement)
            return c.fetchall() if c.description else ()

    def do(self, label, statement, params=None, **cursor):
        """Runs a statement that returns no rows."""
        with self.db.cursor(**cursor) as c:
            c.execute(statement, params) if params is not None else c.execute(statement)
            show(label, (c.rowcount, c.lastrowid))

    # ---- unbound

    def connection_id(self):
        return self.db.thread_id()

    def server_version(self):
        return self.db.get_server_info()

    def login(self):
        show("server", self.server_version())
        show("version", self.rows("SELECT VERSION(), DATABASE(), CURRENT_USER(), USER() LIKE 'app@%'"))
        show("charset", self.rows("SELECT @@character_set_client, @@character_set_results, @@collation_connection"))
        show("modes", self.rows("SELECT @@sql_mode, @@autocommit, @@transaction_isolation"
                                if "MariaDB" not in self.server_version()
                                else "SELECT @@sql_mode, @@autocommit, @@tx_isolation"))
        ((own,),) = self.rows("SELECT CONNECTION_ID()")
        show("connection id is the server's", own == self.connection_id())
        ((_, cipher),) = self.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        show("tls", len(cipher) > 0)
        show("compression", self.rows("SHOW SESSION STATUS LIKE 'Compression'"))

    def text(self):
        self.do("create", sql("types"))
        self.do("insert", sql("insert"))
        self.show_types("SELECT * FROM types ORDER BY id")
        self.do("update", "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3")
        self.do("update of nothing", "UPDATE types SET i32 = 5 WHERE id = 1")
        self.do("delete", "DELETE FROM types WHERE id = 2")
        self.do("generated key", "INSERT INTO types (v) VALUES ('a'), ('b')")
        show("left", self.rows("SELECT id, v FROM types ORDER BY id"))
        show("nothing", self.rows("SELECT id FROM types WHERE id > 1000"))

    def show_types(self, statement, **cursor):
        for row in self.rows(statement, **cursor):
            for n, value in enumerate(row):
                show(f"row {row[0]} column {n}", value)

    def values(self):
        """A row of every type, as Python has it."""
        return (
            -1, 2, -3, 4, -5, 6, 2**64 - 1, 1.25, -1e200, decimal.Decimal("-123456789.0123456789"), 513, 1999,
            datetime.date(2024, 2, 29), datetime.timedelta(hours=25, minutes=1, microseconds=17),
            datetime.datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.datetime(2001, 2, 3, 4, 5, 6, 789000),
            "日本", "it's \"😀\" \\ \0 %s", "x" * 70000, "é", b"\0\1\2\3", b"\xff'\\\"\0", b"", "three", "y,z", '{"a": "😀"}',
        )  # fmt: skip

    shown = "*"  # the columns that are read back
    columns = "i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt, latin, b, vb, lb, e, s, j"

    def parameters(self, **cursor):
        values = tuple(v[:60000] if isinstance(v, str) else v for v in self.values())
        insert = f"INSERT INTO types ({self.columns}) VALUES ({', '.join(['%s'] * len(values))})"
        with self.db.cursor(**cursor) as c:
            c.execute("DELETE FROM types" if not cursor else "DELETE FROM types WHERE %s", () if not cursor else (1,))
            c.execute(insert, values)
            show("inserted", (c.rowcount, c.lastrowid))
            c.execute(insert, (None,) * len(values))
            show("inserted again", (c.rowcount, c.lastrowid))
            c.execute(f"SELECT {self.shown} FROM types WHERE id > %s ORDER BY id", (-1,))
            for row in c.fetchall():
                show("row", row[1:])
            c.execute("UPDATE types SET i32 = %s WHERE i32 IS NULL", (7,))
            show("updated", c.rowcount)
            c.execute("SELECT i32, v FROM types WHERE v = %s", (values[17],))
            show("found", c.fetchall())

    def prepared(self):
        self.parameters(**self.prepared_option)

    def batch(self):
        self.do("create", "CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))")
        at = datetime.datetime(2026, 1, 1, 0, 0, 0, 1)
        rows = [(n, f"näme {n}" if n % 7 else None, at + datetime.timedelta(seconds=n)) for n in range(1, 1001)]
        with self.db.cursor() as c:
            c.executemany("INSERT INTO many VALUES (%s, %s, %s)", rows)
            show("inserted", c.rowcount)
            c.executemany("UPDATE many SET name = %s WHERE id = %s", [("other", 1), ("another", 2), (None, 3)])
            show("updated", c.rowcount)
        show("there", self.rows("SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many"))

    def blobs(self, **cursor):
        self.do("create", "CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)")
        self.do("empty", "DELETE FROM large")
        for id, length in ((1, MIB), (2, 17 * MIB), (3, 0)):
            data = blob(length)
            with self.db.cursor(**cursor) as c:
                c.execute("INSERT INTO large VALUES (%s, %s)", (id, data))
                show("inserted", c.rowcount)
                c.execute("SELECT LENGTH(data), CRC32(data) FROM large WHERE id = %s", (id,))
                show("stored", c.fetchall())
                if length <= self.largest_read["prepared" if cursor else "text"]:
                    c.execute("SELECT data FROM large WHERE id = %s", (id,))
                    show("read back", bytes(c.fetchall()[0][0]) == data)

    def blobs_prepared(self):
        self.blobs(**self.prepared_option)

    def streaming(self):
        count = total = 0
        with self.db.cursor(**self.streaming_option) as c:
            c.execute("SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 10 ORDER BY 1, b.id")
            show("first", c.fetchone())
            show("next", c.fetchmany(2))
            for row in c:
                count += 1
                total += row[0]
        show("rows", (count, total))

    def procedure(self):
        self.do("create", sql("procedure"))
        self.call()

    def call(self):
        with self.db.cursor() as c:
            show("arguments", c.callproc("counted", (20, 0)))
            self.results(c)
        show("out", self.rows("SELECT @_counted_1"))

    def results(self, c):
        while True:
            if c.description:
                show("result", ([d[0] for d in c.description], c.fetchall()))
            else:
                show("affected", c.rowcount)
            if not c.nextset():
                break

    def multi(self):
        with self.db.cursor() as c:
            c.execute("SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0")
            self.results(c)

        def failing():
            with self.db.cursor() as c:
                c.execute("SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'")
                self.results(c)

        expect_error("in the middle", self.later_error or self.module.ProgrammingError, failing)
        show("still in order", self.rows("SELECT 'yes'"))

    def transaction(self):
        count = "SELECT COUNT(*), MAX(id) FROM many"
        show("before", self.rows(count))
        self.do("begin", "START TRANSACTION")
        self.do("insert", "INSERT INTO many VALUES (2001, 'a', NULL)")
        self.do("savepoint", "SAVEPOINT here")
        self.do("insert", "INSERT INTO many VALUES (2002, 'a', NULL)")
        self.do("rollback to", "ROLLBACK TO SAVEPOINT here")
        show("inside", self.rows(count))
        self.db.commit()
        show("committed", self.rows(count))
        self.do("autocommit", "SET autocommit = 0")
        self.do("delete", "DELETE FROM many WHERE id > 100")
        show("inside", self.rows(count))
        self.db.rollback()
        show("rolled back", self.rows(count))
        self.do("autocommit", "SET autocommit = 1")

    def errors(self):
        for label, statement in self.failing:
            expect_error(label, self.module.Error, lambda: self.rows(statement))
        show("still in order", self.rows("SELECT 'yes'"))

    failing = [
        ("duplicate key", "INSERT INTO many VALUES (1, 'a', NULL)"),
        ("syntax", "SELEKT 1"),
        ("unknown table", "SELECT * FROM nowhere"),
        ("unknown column", "SELECT nothing FROM many"),
        ("too long", "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)"),
        ("not null", "INSERT INTO many (id) VALUES (NULL)"),
        ("unknown schema", "USE nowhere"),
        ("denied", "SET GLOBAL max_connections = 10"),
        ("empty", ""),
        ("signal", "BEGIN NOT ATOMIC SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 5000, MESSAGE_TEXT = 'grün'; END"),
    ]

    def warnings_(self):
        with self.db.cursor() as c:
            c.execute("SELECT CAST('12abc' AS SIGNED), 1 / 0")
            show("value", c.fetchall())
            show("warnings", self.warnings(c))
            c.execute("CREATE TABLE IF NOT EXISTS many (id INT)")
            show("note", self.warnings(c))

    def metadata(self):
        with self.db.cursor() as c:
            c.execute("SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t")
            for d in c.description:
                show(str(d[0]), self.column(d))
            c.fetchall()

    def load_data(self):
        file = TMP / "rows.txt"
        file.write_text("".join(f"{n}\tname é {n}\t\\N\n" for n in range(5001, 8001)), encoding="utf-8")
        self.do("load", f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE many CHARACTER SET utf8mb4")
        show("loaded", self.rows("SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000"))
        file.write_bytes(b"")
        self.do("empty file", f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE many")
        file.unlink()
        expect_error("no file", self.module.Error,
                     lambda: self.rows(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE many"))
        if self.survives_missing_file:
            show("still in order", self.rows("SELECT 'yes'"))
        else:
            self.db.reconnect()

    def killed(self):
        """What a connection sees that was killed while it was idle."""
        other = self.connect()
        with other.cursor() as c:
            c.execute("SELECT CONNECTION_ID()")
            ((id,),) = c.fetchall()
            self.rows(f"KILL {id}")
            while self.rows("SELECT id FROM information_schema.processlist WHERE id = %s", (id,)):
                time.sleep(0.01)
            try:
                c.execute("SELECT 1")
            except self.module.Error as error:
                show("killed", error.args[0])
            else:
                sys.exit("killed: no error")

    # ---- bound

    def bound(self):
        """Runs DML between BEGIN and END; what it prints has to be the same with and without them."""
        section("bound")
        if BEGIN:
            self.rows(BEGIN)
        self.bound_statements()
        self.bound_transactions()
        for row in self.rows("SELECT * FROM account ORDER BY id") + self.rows("SELECT * FROM note ORDER BY id"):
            show("row", row)
        if END:
            self.rows(END)
        show("still in order", self.rows("SELECT 'yes'"))

    def bound_statements(self):
        self.do("insert", "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)")
        self.do("insert rows", "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)")
        self.do("update by key", "UPDATE account SET balance = balance - 10.25 WHERE id = 1")
        self.do("update by name", "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'")
        self.do("update of nothing", "UPDATE account SET balance = balance WHERE id = 1")
        self.do("delete", "DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1")
        with self.db.cursor() as c:
            c.execute("INSERT INTO note VALUES (%s, %s, %s, %s, %s, %s)",
                      (3, datetime.datetime(2026, 5, 5, 5, 5, 5, 5), "it's \"ü\" \\", blob(MIB), '{"b": [1]}', 1e-7))
            show("insert with parameters", (c.rowcount, c.lastrowid))
            c.executemany("INSERT INTO account (name, balance) VALUES (%s, %s)", [(f"n{n}", n) for n in range(20)])
            show("batch", c.rowcount)
            c.executemany("UPDATE account SET balance = %s WHERE name = %s", [(7, "n1"), (8, "n2")])
            show("updates", c.rowcount)
        if self.prepared_option:
            with self.db.cursor(**self.prepared_option) as c:
                c.execute("INSERT INTO note VALUES (%s, %s, %s, %s, %s, %s)",
                          (4, datetime.datetime(2026, 5, 5, 5, 5, 5, 5), "prepared", b"\0\xff'", "[]", -0.5))
                show("prepared insert", (c.rowcount, c.lastrowid))
                c.execute("INSERT INTO note VALUES (%s, %s, %s, %s, %s, %s)", (5, None, None, None, None, None))
                show("again", (c.rowcount, c.lastrowid))
            self.do("prepared update", "UPDATE note SET d = d + %s WHERE id = %s", (0.25, 1), **self.prepared_option)
            self.do("prepared delete", "DELETE FROM note WHERE id = %s", (2,), **self.prepared_option)
            show("prepared read", self.rows("SELECT * FROM note WHERE id < %s", (3,), **self.prepared_option))
        expect_error("duplicate key", self.module.IntegrityError,
                     lambda: self.rows("INSERT INTO account (name, balance) VALUES ('ann', 1)"))

    def bound_transactions(self):
        self.do("begin", "START TRANSACTION")
        self.do("update", "UPDATE account SET balance = 0 WHERE id IN (2, 3, 4)")
        self.do("savepoint", "SAVEPOINT here")
        self.do("delete", "DELETE FROM account")
        show("inside", self.rows("SELECT COUNT(*) FROM account"))
        self.do("rollback to", "ROLLBACK TO SAVEPOINT here")
        self.do("insert", "INSERT INTO account VALUES (500, 'inside', 1)")
        self.db.commit()
        self.do("autocommit", "SET autocommit = 0")
        self.do("delete", "DELETE FROM account WHERE id < 10")
        self.db.rollback()
        self.do("update", "UPDATE account SET name = 'last' WHERE id = 4")
        self.db.commit()
        self.do("autocommit", "SET autocommit = 1")
