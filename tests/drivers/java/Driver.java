import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

/** What the two drivers differ in: their URLs and properties, and what JDBC has no words for. */
abstract class Driver {
    static final String SCHEMA = env("DRIVER_SCHEMA");
    static final String CA = env("DRIVER_CA");

    static String env(String name) {
        return System.getenv().getOrDefault(name, "");
    }

    static Driver named(String name) {
        return name.equals("mysql") ? new MySql() : new MariaDb();
    }

    /** A connection with these properties over the environment's. */
    Connection connect(Map<String, String> more) throws Exception {
        Properties properties = new Properties();
        properties.put("user", env("DRIVER_USER"));
        properties.put("password", env("DRIVER_PASSWORD"));
        properties.put("allowMultiQueries", "true");
        properties.put("allowPublicKeyRetrieval", "true");
        properties.put("useCompression", String.valueOf(env("DRIVER_COMPRESS").equals("1")));
        properties.putAll(own());
        properties.putAll(more);
        String address = env("DRIVER_HOST") + ":" + env("DRIVER_PORT") + "/" + SCHEMA;
        return DriverManager.getConnection("jdbc:" + scheme() + "://" + address, properties);
    }

    abstract String scheme();

    abstract Map<String, String> own() throws Exception;

    abstract long connectionId(Connection db) throws SQLException;

    /** How parameters are put in by the driver. */
    abstract Map<String, String> byDriver();

    /** How statements are prepared on the server. */
    abstract Map<String, String> onServer();

    /** How batches go in few packets. */
    abstract Map<String, String> batches();

    /** How results are read piece by piece, with a fetch size. */
    abstract Map<String, String> cursors();

    /** A fetch size that reads row by row, without a cursor. */
    abstract int streaming();

    /** Whether LOAD DATA LOCAL works. */
    boolean loads() {
        return true;
    }

    /** Another user and back, or a reset, whatever the driver has. */
    abstract void reset(Connection db) throws Exception;

    private static final class MySql extends Driver {
        @Override
        String scheme() {
            return "mysql";
        }

        @Override
        Map<String, String> own() throws Exception {
            Map<String, String> own = new TreeMap<>(Map.of("allowLoadLocalInfile", "true", "connectionTimeZone", "UTC"));
            if (CA.isEmpty()) {
                own.put("sslMode", "DISABLED");
            } else {
                own.put("sslMode", "VERIFY_IDENTITY");
                own.put("trustCertificateKeyStoreUrl", keyStore().toUri().toString());
                own.put("trustCertificateKeyStoreType", "PKCS12");
                own.put("trustCertificateKeyStorePassword", "secret");
            }
            return own;
        }

        /** The authority in the only form that the driver reads. */
        private static Path keyStore() throws Exception {
            Path file = Path.of(env("DRIVER_TMP"), "trust.p12");
            if (!Files.exists(file)) {
                KeyStore store = KeyStore.getInstance("PKCS12");
                store.load(null, null);
                try (FileInputStream pem = new FileInputStream(CA)) {
                    store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
                }
                try (FileOutputStream out = new FileOutputStream(file.toFile())) {
                    store.store(out, "secret".toCharArray());
                }
            }
            return file;
        }

        @Override
        long connectionId(Connection db) throws SQLException {
            return db.unwrap(com.mysql.cj.jdbc.JdbcConnection.class).getId();
        }

        @Override
        Map<String, String> byDriver() {
            return Map.of("useServerPrepStmts", "false");
        }

        @Override
        Map<String, String> onServer() {
            return Map.of("useServerPrepStmts", "true", "cachePrepStmts", "true", "emulateUnsupportedPstmts", "false");
        }

        @Override
        Map<String, String> batches() {
            return Map.of("rewriteBatchedStatements", "true");
        }

        @Override
        Map<String, String> cursors() {
            return Map.of("useCursorFetch", "true");
        }

        @Override
        int streaming() {
            return Integer.MIN_VALUE;
        }

        @Override
        void reset(Connection db) throws Exception {
            var own = db.unwrap(com.mysql.cj.jdbc.JdbcConnection.class);
            own.resetServerState();
            Jdbc.query(db, "reset", "SELECT @here, @@sql_mode = @@GLOBAL.sql_mode, DATABASE()");
            own.changeUser(env("DRIVER_OTHER_USER"), env("DRIVER_OTHER_PASSWORD"));
            Jdbc.query(db, "user", "SELECT CURRENT_USER(), DATABASE()");
            own.changeUser(env("DRIVER_USER"), env("DRIVER_PASSWORD"));
            Jdbc.query(db, "user", "SELECT CURRENT_USER(), DATABASE()");
        }
    }

    private static final class MariaDb extends Driver {
        @Override
        String scheme() {
            return "mariadb";
        }

        @Override
        Map<String, String> own() {
            Map<String, String> own = new TreeMap<>(Map.of("allowLocalInfile", "true", "timezone", "UTC"));
            if (CA.isEmpty()) {
                own.put("sslMode", "disable");
            } else {
                own.put("sslMode", "verify-full");
                own.put("serverSslCert", CA);
            }
            return own;
        }

        @Override
        long connectionId(Connection db) throws SQLException {
            return db.unwrap(org.mariadb.jdbc.Connection.class).getThreadId();
        }

        @Override
        Map<String, String> byDriver() {
            return Map.of("useServerPrepStmts", "false");
        }

        @Override
        Map<String, String> onServer() {
            return Map.of("useServerPrepStmts", "true", "cachePrepStmts", "true");
        }

        @Override
        Map<String, String> batches() {
            return Map.of("useBulkStmts", "true", "useBulkStmtsForInserts", "true");
        }

        @Override
        Map<String, String> cursors() {
            return Map.of("useServerPrepStmts", "true");
        }

        @Override
        int streaming() {
            return 1;
        }

        @Override
        boolean loads() {
            // Compressed it numbers the file's packets wrong, and every server refuses them.
            return !env("DRIVER_COMPRESS").equals("1");
        }

        @Override
        void reset(Connection db) throws Exception {
            db.unwrap(org.mariadb.jdbc.Connection.class).reset();
            Jdbc.query(db, "reset", "SELECT @here, DATABASE()");
        }
    }
}
