import org.flywaydb.core.Flyway;
import org.flywaydb.core.api.configuration.FluentConfiguration;

/**
 * Flyway: {@code Migrates URL USER PASSWORD FOLDER [STATEMENT]}. Runs the folder's migrations that have not run, in connections
 * that begin with the statement, and prints how many these were.
 */
final class Migrates {
    private Migrates() {}

    public static void main(String[] args) {
        FluentConfiguration configuration =
                Flyway.configure().dataSource(args[0], args[1], args[2]).locations("filesystem:" + args[3]);
        if (args.length > 4) {
            configuration.initSql(args[4]);
        }
        System.out.println(configuration.load().migrate().migrationsExecuted);
    }
}
