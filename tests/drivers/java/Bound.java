import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.LocalDateTime;
import java.util.Arrays;

/** DML between the two statements of the environment; what it prints has to be the same with and without them. */
final class Bound {
    private Bound() {}

    static void run(Driver driver) throws Exception {
        Jdbc.section("bound");
        try (Connection db = driver.connect(driver.byDriver());
                Connection server = driver.connect(driver.onServer());
                Connection batches = driver.connect(driver.batches())) {
            String begin = Driver.env("DRIVER_BEGIN");
            String end = Driver.env("DRIVER_END");
            if (!begin.isEmpty()) {
                execute(db, begin);
            }
            String xid = null;
            try (Statement statement = db.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT @atone_xid")) {
                rows.next();
                xid = rows.getString(1);
            }
            for (Connection other : new Connection[] {server, batches}) {
                try (PreparedStatement bind = other.prepareStatement("SET @atone_xid = ?")) {
                    bind.setString(1, xid);
                    bind.execute();
                }
            }
            statements(db);
            parameters(db, 3);
            parameters(server, 6);
            batches(batches);
            transactions(db);
            for (Connection one : new Connection[] {db, server}) {
                Jdbc.query(one, "account", "SELECT * FROM account WHERE id > ? ORDER BY id", 0);
                Jdbc.query(one, "note", "SELECT * FROM note WHERE id > ? ORDER BY id", 0);
            }
            if (!end.isEmpty()) {
                execute(db, end);
            }
            Jdbc.query(db, "still in order", "SELECT 'yes'");
        }
    }

    private static void execute(Connection db, String sql) throws Exception {
        try (Statement statement = db.createStatement()) {
            statement.execute(sql);
        }
    }

    private static void statements(Connection db) throws Exception {
        Jdbc.update(db, "insert", "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)");
        Jdbc.update(db, "insert rows", "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)");
        Jdbc.update(db, "update by key", "UPDATE account SET balance = balance - 10.25 WHERE id = 1");
        Jdbc.update(db, "update by name", "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'");
        Jdbc.update(db, "update of nothing", "UPDATE account SET balance = balance WHERE id = 1");
        Jdbc.update(db, "delete", "DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1");
        Jdbc.fails("duplicate key", () ->
                Jdbc.update(db, "", "INSERT INTO account (name, balance) VALUES ('ann', 1)"));
    }

    private static void parameters(Connection db, int id) throws Exception {
        LocalDateTime at = LocalDateTime.of(2026, 5, 5, 5, 5, 5, 5000);
        String insert = "INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)";
        Jdbc.update(db, "insert", insert, id, at, "it's \"ü\" \\", Jdbc.blob(Jdbc.MIB), "{\"b\": [1]}", 1e-7);
        Jdbc.update(db, "again", insert, id + 1, null, null, null, null, null);
        Jdbc.update(db, "update", "UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)", 0.25, null, 1, id);
        Jdbc.update(db, "delete", "DELETE FROM note WHERE id = ?", id + 1);
        Jdbc.query(db, "read", "SELECT * FROM note WHERE id < ?", id + 2);
        Jdbc.fails("duplicate key", () -> Jdbc.update(db, "", insert, id, null, null, null, null, null));
    }

    private static void batches(Connection db) throws Exception {
        try (Statement several = db.createStatement()) {
            several.addBatch("UPDATE account SET balance = 1 WHERE name = 'a'");
            several.addBatch("DELETE FROM account WHERE name = 'c'");
            several.addBatch("INSERT INTO account (name, balance) VALUES ('é', 7)");
            several.addBatch("UPDATE account SET balance = 2 WHERE name = 'é'");
            several.addBatch("DO 0");
            Jdbc.show("several", Arrays.toString(several.executeBatch()));
        }
        // Behind its bulk inserts MariaDB leaves a gap in the generated keys, which a bound session does not.
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO account (name, balance) VALUES (?, ?)")) {
            for (int n = 0; n < 20; n++) {
                Jdbc.set(insert, "n" + n, n);
                insert.addBatch();
            }
            Jdbc.show("inserted", Arrays.toString(insert.executeBatch()));
        }
        try (PreparedStatement update = db.prepareStatement("UPDATE account SET balance = ? WHERE name = ?")) {
            for (int n = 0; n < 8; n++) {
                Jdbc.set(update, n * 10, "n" + n);
                update.addBatch();
            }
            Jdbc.show("updated", Arrays.toString(update.executeBatch()));
        }
    }

    private static void transactions(Connection db) throws Exception {
        db.setAutoCommit(false);
        Jdbc.update(db, "update", "UPDATE account SET balance = 0 WHERE id IN (?, ?, ?)", 2, 3, 4);
        Savepoint here = db.setSavepoint("here");
        Jdbc.update(db, "delete", "DELETE FROM account");
        db.rollback(here);
        Jdbc.update(db, "insert", "INSERT INTO account VALUES (500, 'inside', 1)");
        db.commit();
        Jdbc.update(db, "delete", "DELETE FROM account WHERE id < 10");
        db.rollback();
        Jdbc.update(db, "update", "UPDATE account SET name = 'last' WHERE id = 4");
        db.commit();
        db.setAutoCommit(true);
    }
}
