import java.io.ByteArrayInputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.util.Arrays;
import java.util.Map;
import java.util.zip.CRC32;

/** The script of both JDBC drivers: {@code Jdbc mysql|mariadb}. */
final class Jdbc {
    static final int MIB = 1024 * 1024;
    static final String COLUMNS = "i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt,"
            + " latin, b, vb, lb, e, s, j";

    private Jdbc() {}

    public static void main(String[] args) throws Exception {
        Driver driver = Driver.named(args[0]);
        if (Driver.env("DRIVER_MODE").equals("bound")) {
            Bound.run(driver);
        } else {
            unbound(driver);
        }
        section("end");
        System.out.flush();
    }

    static void unbound(Driver driver) throws Exception {
        try (Connection db = driver.connect(driver.byDriver());
                Connection server = driver.connect(driver.onServer())) {
            login(driver, db);
            text(db);
            section("parameters");
            parameters(db);
            section("prepared");
            parameters(server);
            section("batch");
            batches(driver, db);
            section("blobs");
            blobs(db);
            section("blobs-prepared");
            blobs(server);
            streaming(driver, db);
            cursor(driver);
            multi(db);
            procedure(db, server);
            transaction(db);
            errors(driver, db, server);
            warnings(db);
            metadata(db, server);
            loadData(driver, db);
            reset(driver, db);
        }
    }

    // ---- printing

    static void section(String name) {
        System.out.println("== " + name);
    }

    static void show(String label, Object value) {
        System.out.println(label + ": " + text(value));
    }

    /** A value with its type; long ones as length and checksum. */
    static String text(Object value) {
        if (value == null) {
            return "null";
        }
        if (value instanceof byte[]) {
            byte[] bytes = (byte[]) value;
            if (bytes.length > 100) {
                return bytes.length + " bytes, crc " + crc(bytes);
            }
            StringBuilder hex = new StringBuilder("bytes ");
            for (byte b : bytes) {
                hex.append(String.format("%02x", b));
            }
            return hex.toString();
        }
        String text = value.toString().replace("\n", "\\n").replace("\0", "\\0");
        if (text.length() > 300) {
            text = text.length() + " characters, crc " + crc(text.getBytes(StandardCharsets.UTF_8));
        }
        return value.getClass().getSimpleName() + " " + text;
    }

    static long crc(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return crc.getValue();
    }

    static void fails(String label, Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException error) {
            String message = String.valueOf(error.getMessage()).replaceAll("conn=[0-9]+", "conn=N").split("\n")[0];
            System.out.println(label + ": " + error.getClass().getSimpleName() + " " + error.getErrorCode() + " "
                    + error.getSQLState() + " " + message);
            return;
        }
        throw new IllegalStateException(label + ": no error");
    }

    interface Action {
        void run() throws Exception;
    }

    static void rows(String label, ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            StringBuilder line = new StringBuilder();
            for (int n = 1; n <= columns; n++) {
                line.append(n > 1 ? " | " : "").append(cell(rows, n));
            }
            System.out.println(label + ": " + line);
        }
    }

    /** A value as an object; where the driver has none for it, as text. */
    static String cell(ResultSet rows, int column) throws SQLException {
        try {
            return text(rows.getObject(column));
        } catch (SQLException error) {
            return "as text: " + text(rows.getString(column));
        }
    }

    static void query(Connection db, String label, String sql, Object... values) throws SQLException {
        if (values.length == 0) {
            try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
                rows(label, rows);
            }
            return;
        }
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            set(statement, values);
            try (ResultSet rows = statement.executeQuery()) {
                rows(label, rows);
            }
        }
    }

    static void set(PreparedStatement statement, Object... values) throws SQLException {
        for (int n = 0; n < values.length; n++) {
            statement.setObject(n + 1, values[n]);
        }
    }

    /** Affected rows and generated keys. */
    static void update(Connection db, String label, String sql, Object... values) throws SQLException {
        try (PreparedStatement prepared = values.length == 0 ? null
                        : db.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS);
                Statement plain = db.createStatement()) {
            int affected;
            if (prepared == null) {
                affected = plain.executeUpdate(sql, Statement.RETURN_GENERATED_KEYS);
            } else {
                set(prepared, values);
                affected = prepared.executeUpdate();
            }
            StringBuilder keys = new StringBuilder();
            try (ResultSet generated = (prepared == null ? plain : prepared).getGeneratedKeys()) {
                while (generated.next()) {
                    keys.append(' ').append(generated.getLong(1));
                }
            }
            System.out.println(label + ": " + affected + " keys" + keys);
        }
    }

    /** All results of a statement. */
    static void results(String label, Statement statement, boolean isRows) throws SQLException {
        while (true) {
            if (isRows) {
                try (ResultSet rows = statement.getResultSet()) {
                    rows(label, rows);
                }
            } else if (statement.getUpdateCount() == -1) {
                return;
            } else {
                show(label + " affected", statement.getUpdateCount());
            }
            isRows = statement.getMoreResults();
        }
    }

    static String shared(String name) throws Exception {
        return Files.readString(Path.of(Driver.env("DRIVER_SQL"), name + ".sql"));
    }

    static byte[] blob(int length) {
        byte[] data = new byte[length];
        for (int n = 0; n < length; n++) {
            data[n] = (byte) n;
        }
        return data;
    }

    // ---- the sections

    private static void login(Driver driver, Connection db) throws Exception {
        section("login");
        var meta = db.getMetaData();
        show("server", meta.getDatabaseProductName() + " " + meta.getDatabaseProductVersion());
        query(db, "version", "SELECT VERSION(), DATABASE(), CURRENT_USER()");
        query(db, "charset", "SELECT @@character_set_client, @@character_set_results, @@collation_connection");
        query(db, "modes", "SELECT @@sql_mode, @@autocommit, @@time_zone");
        show("isolation", db.getTransactionIsolation());
        try (Statement statement = db.createStatement()) {
            ResultSet rows = statement.executeQuery("SELECT CONNECTION_ID()");
            rows.next();
            show("connection id is the server's", rows.getLong(1) == driver.connectionId(db));
            rows = statement.executeQuery("SHOW SESSION STATUS LIKE 'Ssl_cipher'");
            rows.next();
            show("tls", !rows.getString(2).isEmpty());
        }
        query(db, "compression", "SHOW SESSION STATUS LIKE 'Compression'");
    }

    private static void text(Connection db) throws Exception {
        section("text");
        update(db, "create", shared("types"));
        update(db, "insert", shared("insert"));
        query(db, "read", "SELECT * FROM types ORDER BY id");
        update(db, "update", "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3");
        update(db, "update of nothing", "UPDATE types SET i32 = 5 WHERE id = 1");
        update(db, "delete", "DELETE FROM types WHERE id = 2");
        update(db, "generated keys", "INSERT INTO types (v) VALUES ('a'), ('b')");
        query(db, "left", "SELECT id, v FROM types ORDER BY id");
    }

    private static Object[] values() {
        return new Object[] {
            (byte) -1, (short) 2, (short) -3, 4, -5, 6L, new BigDecimal("18446744073709551615"), 1.25f, -1e200,
            new BigDecimal("-123456789.0123456789"), new byte[] {2, 1}, 1999,
            "2024-02-29", // MariaDB's driver sends a LocalDate in a form that MySQL does not take
            LocalTime.of(23, 1, 2, 17000), LocalDateTime.of(2024, 2, 29, 23, 59, 59, 999999000),
            Timestamp.valueOf("2001-02-03 04:05:06.789"), "日本", "it's \"😀\" \\ \0 ?", "x".repeat(60000), "é",
            new byte[] {0, 1, 2, 3}, new byte[] {(byte) 255, '\'', '\\', '"', 0}, new byte[0], "three", "y,z",
            "{\"a\": \"😀\"}",
        };
    }

    private static void parameters(Connection db) throws Exception {
        Object[] values = values();
        String insert = "INSERT INTO types (" + COLUMNS + ") VALUES (?" + ", ?".repeat(values.length - 1) + ")";
        update(db, "clear", "DELETE FROM types WHERE id > ?", 0);
        update(db, "inserted", insert, values);
        update(db, "inserted again", insert, new Object[values.length]);
        query(db, "read", "SELECT " + COLUMNS + " FROM types WHERE id > ? ORDER BY id", -1);
        query(db, "found", "SELECT i32, v FROM types WHERE v = ?", values[17]);
        // Several statements open at a time, closed in another order.
        try (PreparedStatement one = db.prepareStatement("SELECT ? + 1, ?")) {
            PreparedStatement two = db.prepareStatement("UPDATE types SET v = ? WHERE i8 = ?");
            for (Object value : new Object[] {1, "a", null, 3.5, new byte[] {'b'}, LocalTime.of(1, 2, 3)}) {
                one.setObject(1, 1);
                one.setObject(2, value);
                rows("one", one.executeQuery());
                set(two, value, -1);
                show("two", two.executeUpdate());
            }
            two.close();
            set(one, null, null);
            rows("last", one.executeQuery());
        }
        try (PreparedStatement long_ = db.prepareStatement("INSERT INTO types (lb, txt) VALUES (?, ?)")) {
            long_.setBinaryStream(1, new ByteArrayInputStream(blob(MIB)), MIB);
            long_.setCharacterStream(2, new StringReader("é😀".repeat(10000)), 30000);
            show("streams", long_.executeUpdate());
        }
        query(db, "streams", "SELECT lb, txt FROM types WHERE LENGTH(lb) > ?", 1000);
        fails("syntax", () -> query(db, "", "SELEKT ?", 1));
    }

    private static void batches(Driver driver, Connection plain) throws Exception {
        update(plain, "create", "CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))");
        try (Connection db = driver.connect(driver.batches())) {
            batch(db, "INSERT INTO many VALUES (?, ?, ?)", 1, 1000);
            try (PreparedStatement update = db.prepareStatement("UPDATE many SET name = ? WHERE id = ?")) {
                for (int n = 1; n <= 10; n++) {
                    set(update, n == 3 ? null : "other " + n, n);
                    update.addBatch();
                }
                show("updated", Arrays.toString(update.executeBatch()));
            }
            try (Statement several = db.createStatement()) {
                several.addBatch("INSERT INTO many VALUES (1001, 'a', NULL), (1002, 'b', NULL)");
                several.addBatch("DELETE FROM many WHERE id > 1000");
                several.addBatch("UPDATE many SET name = 'é' WHERE id = 4");
                several.addBatch("DO 0");
                several.addBatch("DO 1");
                show("several", Arrays.toString(several.executeBatch()));
            }
            // The fifth is there already.
            fails("duplicate", () -> batch(db, "INSERT INTO many VALUES (?, ?, ?)", 996, 1005));
        }
        batch(plain, "INSERT IGNORE INTO many VALUES (?, ?, ?)", 998, 1003);
        update(plain, "clear", "DELETE FROM many WHERE id > 1000");
        query(plain, "there", "SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many");
    }

    private static void batch(Connection db, String sql, int from, int to) throws Exception {
        try (PreparedStatement insert = db.prepareStatement(sql)) {
            for (int n = from; n <= to; n++) {
                set(insert, n, n % 7 == 0 ? null : "näme " + n, LocalDateTime.of(2026, 1, 1, 0, 0, n % 60, 1000));
                insert.addBatch();
            }
            long sum = 0;
            for (int count : insert.executeBatch()) {
                sum += count;
            }
            show("batch", sum);
        }
    }

    private static void blobs(Connection db) throws Exception {
        update(db, "create", "CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)");
        update(db, "clear", "DELETE FROM large");
        for (int length : new int[] {MIB, 17 * MIB, 0}) {
            update(db, "inserted", "INSERT INTO large VALUES (?, ?)", length, blob(length));
            query(db, "stored", "SELECT LENGTH(data), CRC32(data) FROM large WHERE id = ?", length);
            query(db, "read back", "SELECT data FROM large WHERE id = ?", length);
        }
    }

    private static void streaming(Driver driver, Connection db) throws Exception {
        section("streaming");
        try (Statement statement = db.createStatement()) {
            statement.setFetchSize(driver.streaming());
            count(statement.executeQuery(JOIN));
        }
        query(db, "still in order", "SELECT 'yes'");
    }

    private static final String JOIN = "SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 10 ORDER BY 1, b.id";

    private static void count(ResultSet rows) throws SQLException {
        long count = 0;
        long total = 0;
        while (rows.next()) {
            count++;
            total += rows.getLong(1);
        }
        show("rows", count + " " + total);
    }

    private static void cursor(Driver driver) throws Exception {
        section("cursor");
        try (Connection db = driver.connect(driver.cursors());
                PreparedStatement statement = db.prepareStatement(JOIN);
                PreparedStatement between = db.prepareStatement("SELECT ? + 1")) {
            statement.setFetchSize(100);
            try (ResultSet rows = statement.executeQuery()) {
                for (int n = 0; n < 250; n++) {
                    rows.next();
                }
                show("in the middle", rows.getLong(1));
                // Another statement while the cursor is open.
                set(between, 41);
                rows("between", between.executeQuery());
                count(rows);
            }
            try (ResultSet rows = statement.executeQuery()) {
                show("left early", rows.next());
            }
            query(db, "still in order", "SELECT 'yes'");
        }
    }

    private static void multi(Connection db) throws Exception {
        section("multi");
        try (Statement statement = db.createStatement()) {
            results("several", statement, statement.execute(
                    "SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0"));
            fails("in the middle", () -> results("several", statement,
                    statement.execute("SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'")));
        }
        query(db, "still in order", "SELECT 'yes'");
    }

    private static void procedure(Connection db, Connection server) throws Exception {
        section("procedure");
        update(db, "create", shared("procedure"));
        for (Connection one : new Connection[] {db, server}) {
            try (CallableStatement call = one.prepareCall("{CALL counted(?, ?)}")) {
                call.setInt(1, 20);
                call.registerOutParameter(2, Types.INTEGER);
                results("call", call, call.execute());
                show("out", call.getInt(2));
            }
            query(one, "still in order", "SELECT 'yes'");
        }
    }

    private static void transaction(Connection db) throws Exception {
        section("transaction");
        String count = "SELECT COUNT(*), MAX(id) FROM many";
        db.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        db.setAutoCommit(false);
        for (boolean commit : new boolean[] {true, false}) {
            update(db, "insert", "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001");
            Savepoint here = db.setSavepoint("here");
            update(db, "insert", "INSERT INTO many VALUES (2002, 'a', NULL)");
            db.rollback(here);
            db.releaseSavepoint(db.setSavepoint());
            query(db, "inside", count);
            if (commit) {
                db.commit();
            } else {
                db.rollback();
            }
            query(db, "after", count);
        }
        db.setAutoCommit(true);
        update(db, "begin", "START TRANSACTION READ ONLY");
        fails("read only", () -> update(db, "", "DELETE FROM many"));
        update(db, "rollback", "ROLLBACK");
        db.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
    }

    private static void errors(Driver driver, Connection db, Connection server) throws Exception {
        section("errors");
        for (String sql : new String[] {
            "INSERT INTO many VALUES (1, 'a', NULL)", "SELEKT 1", "SELECT * FROM nowhere", "SELECT nothing FROM many",
            "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)", "INSERT INTO many (id) VALUES (NULL)",
            "USE nowhere", "SET GLOBAL max_connections = 10",
        }) {
            fails("error", () -> {
                try (Statement statement = db.createStatement()) {
                    statement.execute(sql);
                }
            });
        }
        fails("prepared", () -> update(server, "", "INSERT INTO many VALUES (?, ?, ?)", 1, "a", null));
        fails("login", () -> driver.connect(Map.of("password", "wrong")));
        // The driver opens a connection of its own and kills the query by the connection's id.
        try (Statement slow = db.createStatement()) {
            slow.setQueryTimeout(1);
            fails("timeout", () -> slow.executeQuery("SELECT COUNT(*) FROM many WHERE SLEEP(20) = 0"));
        }
        query(db, "still in order", "SELECT 'yes'");
    }

    private static void warnings(Connection db) throws Exception {
        section("warnings");
        try (Statement statement = db.createStatement()) {
            rows("value", statement.executeQuery("SELECT CAST('12abc' AS SIGNED), 1 / 0"));
            for (SQLWarning w = statement.getWarnings(); w != null; w = w.getNextWarning()) {
                show("warning", w.getErrorCode() + " " + w.getSQLState() + " " + w.getMessage());
            }
            show("note", statement.executeUpdate("CREATE TABLE IF NOT EXISTS many (id INT)"));
            query(db, "note", "SHOW WARNINGS");
        }
    }

    private static void metadata(Connection db, Connection server) throws Exception {
        section("metadata");
        String sql = "SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t WHERE id > ?";
        for (Connection one : new Connection[] {db, server}) {
            try (PreparedStatement statement = one.prepareStatement(sql)) {
                statement.setInt(1, 0);
                ResultSetMetaData meta = statement.executeQuery().getMetaData();
                for (int n = 1; n <= meta.getColumnCount(); n++) {
                    System.out.println(String.join(" ", meta.getColumnLabel(n), meta.getColumnName(n),
                            meta.getTableName(n), meta.getColumnTypeName(n), meta.getColumnClassName(n),
                            "" + meta.getColumnType(n), "" + meta.getPrecision(n), "" + meta.getScale(n),
                            "" + meta.getColumnDisplaySize(n), "" + meta.isNullable(n), "" + meta.isSigned(n),
                            "" + meta.isAutoIncrement(n)));
                }
                show("parameters", statement.getParameterMetaData().getParameterCount());
            }
        }
        rows("columns", db.getMetaData().getColumns(Driver.SCHEMA, null, "types", "%"));
        rows("keys", db.getMetaData().getPrimaryKeys(Driver.SCHEMA, null, "types"));
    }

    private static void loadData(Driver driver, Connection db) throws Exception {
        section("load-data");
        if (!driver.loads()) {
            query(db, "not with this driver", "SELECT 'compression'");
            query(db, "still in order", "SELECT 'yes'");
            return;
        }
        Path file = Path.of(Driver.env("DRIVER_TMP"), "rows.txt");
        StringBuilder lines = new StringBuilder();
        for (int n = 5001; n <= 8000; n++) {
            lines.append(n).append("\tname é ").append(n).append("\t\\N\n");
        }
        Files.writeString(file, lines);
        String load = "LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE many CHARACTER SET utf8mb4";
        update(db, "loaded", load);
        query(db, "there", "SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000");
        Files.delete(file);
        fails("no file", () -> update(db, "", load));
        query(db, "still in order", "SELECT 'yes'");
    }

    private static void reset(Driver driver, Connection db) throws Exception {
        section("reset");
        show("valid", db.isValid(5));
        update(db, "set", "SET @here = 1");
        db.setCatalog("information_schema");
        query(db, "schema", "SELECT DATABASE(), @here");
        db.setCatalog(Driver.SCHEMA);
        driver.reset(db);
        try (Connection other = driver.connect(Map.of())) {
            long id = driver.connectionId(other);
            update(db, "kill", "KILL " + id);
            boolean there = true;
            while (there) {
                try (Statement statement = db.createStatement();
                        ResultSet rows = statement.executeQuery(
                                "SELECT id FROM information_schema.processlist WHERE id = " + id)) {
                    there = rows.next();
                }
            }
            show("valid", other.isValid(5));
            try {
                query(other, "", "SELECT 1");
                throw new IllegalStateException("killed: no error");
            } catch (SQLException error) {
                show("killed", error.getClass().getSimpleName() + " " + error.getSQLState());
            }
        }
    }
}
