#!/usr/bin/env bash
# The command-line client and the dump program: client.sh mysql|mariadb CLIENT DUMP
set -euo pipefail

kind=$1 client=$2 dump=$3
schema=$DRIVER_SCHEMA copy=${DRIVER_SCHEMA}_copy
file=$DRIVER_TMP/client.cnf
mib=1048576

{
    printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword="%s"\n' \
        "$DRIVER_HOST" "$DRIVER_PORT" "$DRIVER_USER" "$DRIVER_PASSWORD"
    printf 'max-allowed-packet=64M\ndefault-character-set=utf8mb4\nprotocol=tcp\n'
    case $kind in
        mysql)
            if [ -n "$DRIVER_CA" ]; then
                printf 'ssl-mode=VERIFY_IDENTITY\nssl-ca=%s\n' "$DRIVER_CA"
            else
                printf 'ssl-mode=DISABLED\nget-server-public-key\n'
            fi
            [ "$DRIVER_COMPRESS" != 1 ] || printf 'compression-algorithms=zlib\n'
            # Unpacked somewhere, it looks for its plugins in the wrong place.
            plugins=$(dirname "$client")/../root/usr/lib/mysql/plugin
            [ ! -d "$plugins" ] || printf 'plugin-dir=%s\n' "$plugins"
            # DELIMITER and the like are off by default.
            printf '[mysql]\ncommands\n'
            ;;
        mariadb)
            if [ -n "$DRIVER_CA" ]; then
                printf 'ssl\nssl-verify-server-cert\nssl-ca=%s\n' "$DRIVER_CA"
            else
                printf 'skip-ssl\n'
            fi
            [ "$DRIVER_COMPRESS" != 1 ] || printf 'compress\n'
            ;;
    esac
} >"$file"

# Statements from the standard input, with more options; its exit status is printed when it is not 0.
run() {
    local status=0
    "$client" --defaults-file="$file" "$@" "$schema" 2>&1 || status=$?
    [ "$status" = 0 ] || echo "exit status $status"
}

one() { run -N -e "$1"; }

section() { echo "== $1"; }

sum() { cksum | cut -d' ' -f1,2; }

login() {
    section login
    # What is the same whoever is connected to what.
    run -e '\s' | grep -E '^(Current database|Current user|Server version|Protocol version|Server characterset|Conn. +characterset)' |
        tr -s '\t ' ' '
    echo "tls: $(run -e '\s' | grep -c 'Cipher in use')"
    one "SHOW SESSION STATUS LIKE 'Compression'"
    if [ "$kind" = mysql ] && [ "$DRIVER_COMPRESS" = 1 ] && one 'SELECT VERSION()' | grep -vq MariaDB; then
        run --compression-algorithms=zstd --zstd-compression-level=7 -N -e "SHOW SESSION STATUS LIKE 'Compression%'"
        run --compression-algorithms=zstd -N -e "SELECT REPEAT('x', 3000000)" | sum
    fi
    one 'SELECT @@character_set_client, @@character_set_results, @@collation_connection, @@sql_mode'
    run --init-command="SET @here = 'é'" -N -e 'SELECT @here'
}

text() {
    section text
    run -vv <"$DRIVER_SQL/types.sql" | grep -v ' sec)'
    run <"$DRIVER_SQL/insert.sql"
    run -t -e 'SELECT id, i8, u64, amount, dt, v, e, s FROM types ORDER BY id'
    run -E -e 'SELECT * FROM types ORDER BY id'
    run --binary-as-hex -e 'SELECT * FROM types ORDER BY id'
    run -X -e 'SELECT id, v, txt, j FROM types ORDER BY id'
    run -N -vv -e "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3; SELECT ROW_COUNT(); DELETE FROM types WHERE id = 2" |
        sed 's/ ([0-9.]* sec)//'
    one "INSERT INTO types (v) VALUES ('a'), ('b'); SELECT LAST_INSERT_ID(), ROW_COUNT()"
    run --default-character-set=latin1 -N -e "SELECT latin, LENGTH(latin) FROM types WHERE id = 1" | od -c
}

prepared() {
    section prepared
    one "PREPARE s FROM 'SELECT ? + 1, ?'; SET @a = 41, @b = 'é'; EXECUTE s USING @a, @b; DEALLOCATE PREPARE s; EXECUTE s"
    one "PREPARE s FROM 'UPDATE types SET v = ? WHERE id = ?'; SET @v = 'prepared', @id = 3; EXECUTE s USING @v, @id;
         SELECT id, v FROM types WHERE id = 3"
}

many() {
    section batch
    one 'CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))'
    # A thousand statements, as in a script.
    seq 1 1000 | sed "s/.*/INSERT INTO many VALUES (&, 'näme &', '2026-01-01 00:00:00.000001');/" |
        { echo 'BEGIN;'; cat; echo 'COMMIT;'; } | run
    one 'SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many'
    one 'SELECT * FROM many WHERE id % 100 = 0'
}

blobs() {
    section blobs
    one 'CREATE TABLE large (id INT PRIMARY KEY, data LONGTEXT)'
    local length
    for length in $mib $((17 * mib)) $((16 * mib - 1)) 0; do
        { printf "INSERT INTO large VALUES (%s, '" "$length"; head -c "$length" /dev/zero | tr '\0' x; echo "')"; } | run
        one "SELECT LENGTH(data), CRC32(data) FROM large WHERE id = $length"
        run -N -e "SELECT data FROM large WHERE id = $length" | sum
    done
}

streaming() {
    section streaming
    local sql='SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 20 ORDER BY 1, b.id'
    run --quick -N -e "$sql" | sum
    # A reader that goes away early.
    run --quick -N -e "$sql" | head -n 3
    one "SELECT 'yes'"
}

multi() {
    section multi
    run -t -e "SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0"
    run -f -e "SELECT 'before'; SELECT * FROM nowhere; SELECT 'after'"
    run -e "SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'"
}

procedure() {
    section procedure
    { echo 'DELIMITER //'; cat "$DRIVER_SQL/procedure.sql"; echo '//'; echo 'DELIMITER ;'; echo 'CALL counted(20, @twice); SELECT @twice;'; } | run -t
}

transaction() {
    section transaction
    one "BEGIN; INSERT INTO many VALUES (2001, 'a', NULL); SAVEPOINT here; DELETE FROM many; ROLLBACK TO here; SELECT COUNT(*) FROM many;
         COMMIT; SELECT COUNT(*) FROM many; SET autocommit = 0; DELETE FROM many; ROLLBACK; SELECT COUNT(*) FROM many"
    # Not committed when the client ends.
    one 'BEGIN; DELETE FROM many'
    one 'SELECT COUNT(*) FROM many'
}

errors() {
    section errors
    local sql
    for sql in "INSERT INTO many VALUES (1, 'a', NULL)" 'SELEKT 1' 'SELECT * FROM nowhere' 'SELECT nothing FROM many' \
        "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)" 'INSERT INTO many (id) VALUES (NULL)' 'USE nowhere' \
        'SET GLOBAL max_connections = 10'; do
        run -e "$sql"
    done
    run --password=wrong -e 'SELECT 1' | grep -v 'on the command line interface can be insecure' | sed "s/'127.0.0.1'/'localhost'/"
}

warnings() {
    section warnings
    run --show-warnings -N -e "SELECT CAST('12abc' AS SIGNED), 1 / 0; CREATE TABLE IF NOT EXISTS many (id INT)"
}

metadata() {
    section metadata
    run --column-type-info -e "SELECT t.*, id + 1 AS \`ä b\`, 'x', NULL, 1.50, NOW(6) FROM types t LIMIT 0"
    one 'SHOW FULL COLUMNS FROM types; SHOW CREATE TABLE types'
}

load_data() {
    section load-data
    local rows=$DRIVER_TMP/rows.txt
    seq 5001 8000 | sed 's/.*/&\tname é &\t\\N/' >"$rows"
    local sql="LOAD DATA LOCAL INFILE '$rows' INTO TABLE many CHARACTER SET utf8mb4"
    run --local-infile=1 -N -e "$sql; SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000"
    run --local-infile=0 -e "$sql"
    rm "$rows"
    run --local-infile=1 -f -N -e "$sql; SELECT 'yes'"
}

reset() {
    section reset
    run -N <<'SQL'
SET @here = 1;
USE information_schema
SELECT DATABASE(), @here;
resetconnection
SELECT DATABASE(), @here;
KILL CONNECTION_ID();
SQL
    one "KILL QUERY CONNECTION_ID(); SELECT 'never'"
    one "SELECT 'yes'"
}

dumped() {
    local options=(--skip-comments --hex-blob --no-tablespaces)
    [ "$kind" != mysql ] || options+=(--skip-column-statistics --set-gtid-purged=OFF)
    "$dump" --defaults-file="$file" "${options[@]}" "$@" 2>&1 || echo "exit status $?"
}

dump_and_restore() {
    section dump
    one "DELETE FROM large WHERE id = $((16 * mib - 1))"
    one 'CREATE VIEW seen AS SELECT id, name FROM many WHERE id < 10'
    dumped --routines "$schema" types seen many | tee "$DRIVER_TMP/dump.sql" | sum
    grep -c . "$DRIVER_TMP/dump.sql"
    sed -n 1,60p "$DRIVER_TMP/dump.sql" | cut -c1-2000
    dumped --single-transaction --skip-extended-insert "$schema" many | sum
    dumped --xml "$schema" seen | sed 's/Create_time="[^"]*"//'
    one "CREATE DATABASE $copy"
    dumped "$schema" | schema=$copy run
    dumped "$copy" | sum
    dumped "$schema" | sum
    one "DROP DATABASE $copy"
}

bound() {
    section bound
    {
        # A line either way: errors name it.
        echo "${DRIVER_BEGIN:+$DRIVER_BEGIN;}"
        cat <<'SQL'
INSERT INTO account (name, balance) VALUES ('neu 😀', 5);
INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3);
SELECT LAST_INSERT_ID(), ROW_COUNT();
UPDATE account SET balance = balance - 10.25 WHERE id = 1;
UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%';
SELECT ROW_COUNT();
UPDATE account SET balance = balance WHERE id = 1;
DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1;
UPDATE note SET data = REPEAT('é', 1000000), txt = 'it''s "ü" \\' WHERE id = 2;
INSERT INTO account (name, balance) VALUES ('ann', 1);
BEGIN;
UPDATE account SET balance = 0 WHERE id IN (2, 3, 4);
SAVEPOINT here;
DELETE FROM account;
ROLLBACK TO SAVEPOINT here;
INSERT INTO account VALUES (500, 'inside', 1);
COMMIT;
SET autocommit = 0;
DELETE FROM account WHERE id < 10;
ROLLBACK;
UPDATE account SET name = 'last' WHERE id = 4;
COMMIT;
SET autocommit = 1;
UPDATE note SET d = d + 0.25 WHERE id = 1;
DELETE FROM note WHERE id = 1;
INSERT INTO note VALUES (7, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM account ORDER BY id;
SELECT id, at, txt, LENGTH(data), CRC32(data), j, d FROM note ORDER BY id;
SQL
        echo "${DRIVER_END:+$DRIVER_END;}"
        echo "SELECT 'yes';"
    } | run -f -t --show-warnings
}

if [ "$DRIVER_MODE" = bound ]; then
    bound
else
    login
    text
    prepared
    many
    blobs
    streaming
    multi
    procedure
    transaction
    errors
    warnings
    metadata
    load_data
    reset
    dump_and_restore
fi
section end
