<?php
// mysqli on mysqlnd.
declare(strict_types=1);

require __DIR__ . '/common.php';

mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

function connect(?string $password = null, array $options = []): mysqli
{
    $db = mysqli_init();
    $db->options(MYSQLI_OPT_LOCAL_INFILE, 1);
    foreach ($options as $option => $value) {
        $db->options($option, $value);
    }
    $flags = env('COMPRESS') === '1' ? MYSQLI_CLIENT_COMPRESS : 0;
    if (env('CA') !== '') {
        $db->ssl_set(null, null, env('CA'), null, null);
        $flags |= MYSQLI_CLIENT_SSL;
    }
    $db->real_connect(env('HOST'), env('USER'), $password ?? env('PASSWORD'), env('SCHEMA'), (int) env('PORT'), null, $flags);
    $db->set_charset('utf8mb4');
    return $db;
}

function query(mysqli $db, string $label, string $sql): void
{
    $result = $db->query($sql);
    show($label, $result instanceof mysqli_result ? $result->fetch_all(MYSQLI_ASSOC) : told($db));
}

/** What the driver tells of a statement without rows. */
function told(mysqli $db): array
{
    return ['affected' => $db->affected_rows, 'id' => $db->insert_id, 'warnings' => $db->warning_count, 'info' => $db->info];
}

/** Prepared, executed with values, and read. */
function execute(mysqli $db, string $label, string $sql, array $values): void
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    $result = $statement->get_result();
    show($label, $result ? $result->fetch_all() : [$statement->affected_rows, $statement->insert_id]);
    $statement->close();
}

function results(mysqli $db): void
{
    do {
        $result = $db->store_result();
        show('result', $result ? [array_column($result->fetch_fields(), 'name'), $result->fetch_all()] : told($db));
    } while ($db->more_results() && $db->next_result());
}

function login(mysqli $db): void
{
    section('login');
    show('server', [$db->server_info, $db->server_version, $db->protocol_version, $db->character_set_name()]);
    query($db, 'version', 'SELECT VERSION(), DATABASE(), CURRENT_USER()');
    query($db, 'charset', 'SELECT @@character_set_client, @@character_set_results, @@collation_connection');
    $own = $db->query('SELECT CONNECTION_ID()')->fetch_row()[0];
    show("connection id is the server's", (int) $own === $db->thread_id);
    show('tls', $db->query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")->fetch_row()[1] !== '');
    query($db, 'compression', "SHOW SESSION STATUS LIKE 'Compression'");
}

function text_protocol(mysqli $db): void
{
    section('text');
    query($db, 'create', shared('types'));
    query($db, 'insert', shared('insert'));
    query($db, 'read', 'SELECT * FROM types ORDER BY id');
    query($db, 'update', "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3");
    query($db, 'update of nothing', 'UPDATE types SET i32 = 5 WHERE id = 1');
    query($db, 'delete', 'DELETE FROM types WHERE id = 2');
    query($db, 'generated key', "INSERT INTO types (v) VALUES ('a'), ('b')");
    query($db, 'left', 'SELECT id, v FROM types ORDER BY id');
    $text = "it's \\ \"é😀\" \0";
    query($db, 'escaped', "SELECT '" . $db->real_escape_string($text) . "' AS v");
}

function prepared(mysqli $db): void
{
    section('prepared');
    $values = values();
    $insert = 'INSERT INTO types (' . COLUMNS . ') VALUES (?' . str_repeat(', ?', count($values) - 1) . ')';
    execute($db, 'clear', 'DELETE FROM types WHERE id > ?', [0]);
    execute($db, 'inserted', $insert, $values);
    execute($db, 'inserted again', $insert, array_fill(0, count($values), null));
    execute($db, 'read', 'SELECT ' . COLUMNS . ' FROM types WHERE id > ? ORDER BY id', [-1]);
    // Bound variables, several statements open at a time, closed in another order.
    $one = $db->prepare('SELECT ? + 1, ?');
    $two = $db->prepare('UPDATE types SET v = ? WHERE i8 = ?');
    $number = 1;
    $value = null;
    $one->bind_param('is', $number, $value);
    foreach (['a', null, '3.5', "\xff"] as $number => $value) {
        $one->execute();
        $one->store_result();
        $sum = $back = 'not set';
        $one->bind_result($sum, $back);
        while ($one->fetch()) {
            show('one', [$sum, $back, $one->num_rows, $one->field_count, $one->param_count]);
        }
        $two->execute([$number, -1]);
        show('two', $two->affected_rows);
    }
    $one->close();
    $two->execute(['last', -1]);
    $two->reset();
    $two->close();
    fails('syntax', mysqli_sql_exception::class, fn() => $db->prepare('SELEKT ?'));
}

function batch(mysqli $db): void
{
    section('batch');
    query($db, 'create', 'CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))');
    $insert = $db->prepare('INSERT INTO many VALUES (?, ?, ?)');
    $db->begin_transaction();
    for ($n = 1; $n <= 1000; $n++) {
        $insert->execute([$n, $n % 7 ? "näme $n" : null, '2026-01-01 00:00:00.000001']);
    }
    $db->commit();
    query($db, 'there', 'SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many');
}

function blobs(mysqli $db, bool $prepared): void
{
    section($prepared ? 'blobs-prepared' : 'blobs');
    $db->query('CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)');
    $db->query('DELETE FROM large');
    foreach ([MIB, 17 * MIB, 0] as $id => $length) {
        $data = blob($length);
        if ($prepared) {
            $statement = $db->prepare('INSERT INTO large VALUES (?, ?)');
            $none = null;
            $statement->bind_param('ib', $id, $none);
            // In pieces, before the execution.
            foreach (str_split($data, 5 * MIB) as $piece) {
                $statement->send_long_data(1, $piece);
            }
            $statement->execute();
            show('inserted', $statement->affected_rows);
            execute($db, 'read back', 'SELECT LENGTH(data), CRC32(data), data FROM large WHERE id = ?', [$id]);
        } else {
            query($db, 'inserted', "INSERT INTO large VALUES ($id, '" . $db->real_escape_string($data) . "')");
            query($db, 'read back', "SELECT LENGTH(data), CRC32(data), data FROM large WHERE id = $id");
        }
    }
}

function streaming(mysqli $db): void
{
    section('streaming');
    $result = $db->query(JOIN, MYSQLI_USE_RESULT);
    $count = $total = 0;
    while ($row = $result->fetch_row()) {
        $count++;
        $total += $row[0];
    }
    show('rows', [$count, $total]);
    $result = $db->query(JOIN, MYSQLI_USE_RESULT);
    show('first', $result->fetch_assoc());
    fails('out of sync', mysqli_sql_exception::class, fn() => $db->query('SELECT 1'));
    $result->free();
    $db->query(JOIN, MYSQLI_ASYNC);
    do {
        $read = $error = $reject = [$db];
    } while (mysqli_poll($read, $error, $reject, 1) === 0);
    show('asynchronous', $db->reap_async_query()->num_rows);
}

function cursor(mysqli $db): void
{
    section('cursor');
    $statement = $db->prepare(JOIN);
    $statement->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $statement->execute();
    $id = $name = $at = null;
    $statement->bind_result($id, $name, $at);
    $count = 0;
    while ($statement->fetch()) {
        if (++$count === 100) {
            // Another statement while the cursor is open.
            query($db, 'between', "SELECT 'yes'");
        }
    }
    show('rows', [$count, $id, $name, $at]);
    $statement->close();
}

function multi(mysqli $db): void
{
    section('multi');
    $db->multi_query('SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0');
    results($db);
    fails('in the middle', mysqli_sql_exception::class, function () use ($db) {
        $db->multi_query("SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'");
        results($db);
    });
    query($db, 'still in order', "SELECT 'yes'");
}

function procedure(mysqli $db): void
{
    section('procedure');
    query($db, 'create', shared('procedure'));
    $db->multi_query('CALL counted(20, @twice)');
    results($db);
    $statement = $db->prepare('CALL counted(?, @twice)');
    $statement->execute([30]);
    do {
        $result = $statement->get_result();
        show('prepared', $result ? $result->fetch_all() : $statement->affected_rows);
    } while ($statement->more_results() && $statement->next_result());
    $statement->close();
    query($db, 'out', 'SELECT @twice');
}

function transaction(mysqli $db): void
{
    section('transaction');
    $count = 'SELECT COUNT(*), MAX(id) FROM many';
    foreach (['commit', 'rollback'] as $end) {
        $db->begin_transaction(MYSQLI_TRANS_START_READ_WRITE, 'named');
        query($db, 'insert', "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001");
        $db->savepoint('here');
        query($db, 'insert', "INSERT INTO many VALUES (2002, 'a', NULL)");
        query($db, 'rollback to', 'ROLLBACK TO SAVEPOINT here');
        query($db, 'inside', $count);
        $db->$end();
        query($db, "after $end", $count);
    }
    $db->autocommit(false);
    query($db, 'delete', 'DELETE FROM many WHERE id > 100');
    $db->rollback();
    $db->autocommit(true);
    query($db, 'after', $count);
}

function errors(mysqli $db): void
{
    section('errors');
    foreach (FAILING as $sql) {
        fails('error', mysqli_sql_exception::class, fn() => $db->query($sql));
    }
    fails('prepared', mysqli_sql_exception::class,
        fn() => execute($db, '', 'INSERT INTO many VALUES (?, ?, ?)', [1, 'a', null]));
    fails('login', mysqli_sql_exception::class, fn() => connect('wrong'));
    query($db, 'still in order', "SELECT 'yes'");
}

function warnings(mysqli $db): void
{
    section('warnings');
    query($db, 'value', "SELECT CAST('12abc' AS SIGNED), 1 / 0");
    show('count', $db->warning_count);
    for ($warning = $db->get_warnings(); $warning; $warning = $warning->next() ? $warning : false) {
        show('warning', [$warning->errno, $warning->sqlstate, $warning->message]);
    }
    query($db, 'note', 'CREATE TABLE IF NOT EXISTS many (id INT)');
    query($db, 'note', 'SHOW WARNINGS');
}

function metadata(mysqli $db): void
{
    section('metadata');
    foreach ($db->query(METADATA)->fetch_fields() as $field) {
        show('column', $field);
    }
    foreach ($db->prepare(METADATA . ' WHERE id = ?')->result_metadata()->fetch_fields() as $field) {
        show('prepared', $field);
    }
}

function load_data(mysqli $db): void
{
    section('load-data');
    $file = rows_file();
    query($db, 'loaded', "LOAD DATA LOCAL INFILE '$file' INTO TABLE many CHARACTER SET utf8mb4");
    query($db, 'there', 'SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000');
    unlink($file);
    fails('no file', mysqli_sql_exception::class,
        fn() => $db->query("LOAD DATA LOCAL INFILE '$file' INTO TABLE many CHARACTER SET utf8mb4"));
    query($db, 'still in order', "SELECT 'yes'");
}

function reset_session(mysqli $db): void
{
    section('reset');
    show('statistics', explode(':', $db->stat())[0]);
    query($db, 'set', 'SET @here = 1');
    $db->select_db('information_schema');
    query($db, 'schema', 'SELECT DATABASE(), @here');
    $db->change_user(env('OTHER_USER'), env('OTHER_PASSWORD'), env('SCHEMA'));
    query($db, 'user', 'SELECT CURRENT_USER(), DATABASE(), @here, @@character_set_client');
    $db->change_user(env('USER'), env('PASSWORD'), env('SCHEMA'));
    query($db, 'user', 'SELECT CURRENT_USER(), DATABASE(), @@character_set_client');
    $other = connect(null, [MYSQLI_INIT_COMMAND => "SET @other = 'é'", MYSQLI_OPT_INT_AND_FLOAT_NATIVE => 1]);
    query($other, 'another', 'SELECT @other, 1, 1.5e0');
    try {
        show('kill', $db->kill($other->thread_id));
    } catch (mysqli_sql_exception $error) {
        // MySQL has no such command any more.
        show('kill', $error->getMessage());
        $db->query("KILL {$other->thread_id}");
    }
    while ($db->query("SELECT id FROM information_schema.processlist WHERE id = {$other->thread_id}")->num_rows > 0);
    try {
        $other->query('SELECT 1');
        throw new LogicException('killed: no error');
    } catch (mysqli_sql_exception $error) {
        show('killed', $error->getCode());
    }
}

function bound(mysqli $db): void
{
    section('bound');
    if (env('BEGIN') !== '') {
        $db->query(env('BEGIN'));
    }
    query($db, 'insert', "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)");
    query($db, 'insert rows', "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)");
    query($db, 'update by key', 'UPDATE account SET balance = balance - 10.25 WHERE id = 1');
    query($db, 'update by name', "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'");
    query($db, 'update of nothing', 'UPDATE account SET balance = balance WHERE id = 1');
    query($db, 'delete', 'DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1');
    $insert = 'INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)';
    execute($db, 'insert', $insert, [3, '2026-05-05 05:05:05.000005', "it's \"ü\" \\", blob(MIB), '{"b": [1]}', 1e-7]);
    execute($db, 'again', $insert, [4, null, null, null, null, null]);
    $statement = $db->prepare('UPDATE note SET data = ? WHERE id = ?');
    $id = 4;
    $none = null;
    $statement->bind_param('bi', $none, $id);
    $statement->send_long_data(0, blob(1000));
    $statement->send_long_data(0, blob(2 * MIB));
    $statement->execute();
    show('long data', $statement->affected_rows);
    execute($db, 'update', 'UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)', [0.25, null, 1, 3]);
    execute($db, 'delete', 'DELETE FROM note WHERE id = ?', [2]);
    execute($db, 'read', 'SELECT * FROM note WHERE id < ?', [4]);
    // A cursor that is open while other statements run.
    $cursor = $db->prepare('SELECT id, name FROM account ORDER BY id');
    $cursor->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $cursor->execute();
    $key = $name = null;
    $cursor->bind_result($key, $name);
    while ($cursor->fetch()) {
        query($db, "cursor at $key", "UPDATE account SET balance = balance + 1 WHERE id = $key");
    }
    $cursor->close();
    $db->multi_query("INSERT INTO account (name, balance) VALUES ('m', 1); UPDATE account SET balance = 2 WHERE name = 'm'; SELECT 1");
    results($db);
    fails('duplicate key', mysqli_sql_exception::class,
        fn() => $db->query("INSERT INTO account (name, balance) VALUES ('ann', 1)"));
    $db->begin_transaction();
    query($db, 'update', 'UPDATE account SET balance = 0 WHERE id IN (2, 3, 4)');
    $db->savepoint('here');
    query($db, 'delete', 'DELETE FROM account');
    query($db, 'rollback to', 'ROLLBACK TO SAVEPOINT here');
    query($db, 'insert', "INSERT INTO account VALUES (500, 'inside', 1)");
    $db->commit();
    $db->autocommit(false);
    query($db, 'delete', 'DELETE FROM account WHERE id < 10');
    $db->rollback();
    $db->autocommit(true);
    query($db, 'update', "UPDATE account SET name = 'last' WHERE id = 4");
    query($db, 'account', 'SELECT * FROM account ORDER BY id');
    query($db, 'note', 'SELECT * FROM note ORDER BY id');
    if (env('END') !== '') {
        $db->query(env('END'));
    }
    query($db, 'still in order', "SELECT 'yes'");
}

$db = connect();
if (env('MODE') === 'bound') {
    bound($db);
} else {
    login($db);
    text_protocol($db);
    prepared($db);
    batch($db);
    blobs($db, false);
    blobs($db, true);
    streaming($db);
    cursor($db);
    multi($db);
    procedure($db);
    transaction($db);
    errors($db);
    warnings($db);
    metadata($db);
    load_data($db);
    reset_session($db);
}
$db->close();
section('end');
