<?php
// PDO on mysqlnd, with parameters put in by the driver and prepared on the server.
declare(strict_types=1);

require __DIR__ . '/common.php';

function connect(array $options = [], ?string $password = null): PDO
{
    $options += [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_NUM,
        PDO::MYSQL_ATTR_LOCAL_INFILE => true,
        PDO::MYSQL_ATTR_COMPRESS => env('COMPRESS') === '1',
    ];
    if (env('CA') !== '') {
        $options += [PDO::MYSQL_ATTR_SSL_CA => env('CA'), PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true];
    }
    $source = 'mysql:host=' . env('HOST') . ';port=' . env('PORT') . ';dbname=' . env('SCHEMA') . ';charset=utf8mb4';
    return new PDO($source, env('USER'), $password ?? env('PASSWORD'), $options);
}

function query(PDO $db, string $label, string $sql): void
{
    $result = $db->query($sql);
    show($label, $result->columnCount() > 0 ? $result->fetchAll() : [$result->rowCount(), $db->lastInsertId()]);
}

function execute(PDO $db, string $label, string $sql, array $values): void
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    show($label, $statement->columnCount() > 0 ? $statement->fetchAll() : [$statement->rowCount(), $db->lastInsertId()]);
}

function results(PDOStatement $statement): void
{
    do {
        show('result', $statement->columnCount() > 0 ? $statement->fetchAll(PDO::FETCH_ASSOC) : $statement->rowCount());
    } while ($statement->nextRowset());
}

function login(PDO $db): void
{
    section('login');
    show('server', [$db->getAttribute(PDO::ATTR_SERVER_VERSION), $db->getAttribute(PDO::ATTR_DRIVER_NAME)]);
    show('information', explode(':', $db->getAttribute(PDO::ATTR_SERVER_INFO))[0]);
    query($db, 'version', 'SELECT VERSION(), DATABASE(), CURRENT_USER()');
    query($db, 'charset', 'SELECT @@character_set_client, @@character_set_results, @@collation_connection');
    show('tls', $db->query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")->fetchColumn(1) !== '');
    query($db, 'compression', "SHOW SESSION STATUS LIKE 'Compression'");
}

function text_protocol(PDO $db): void
{
    section('text');
    query($db, 'create', shared('types'));
    query($db, 'insert', shared('insert'));
    query($db, 'read', 'SELECT * FROM types ORDER BY id');
    show('update', $db->exec("UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3"));
    show('update of nothing', $db->exec('UPDATE types SET i32 = 5 WHERE id = 1'));
    show('delete', $db->exec('DELETE FROM types WHERE id = 2'));
    query($db, 'generated key', "INSERT INTO types (v) VALUES ('a'), ('b')");
    query($db, 'left', 'SELECT id, v FROM types ORDER BY id');
    query($db, 'quoted', 'SELECT ' . $db->quote("it's \\ \"é😀\" \0"));
}

function parameters(PDO $db): void
{
    $values = values();
    $insert = 'INSERT INTO types (' . COLUMNS . ') VALUES (?' . str_repeat(', ?', count($values) - 1) . ')';
    execute($db, 'clear', 'DELETE FROM types WHERE id > ?', [0]);
    execute($db, 'inserted', $insert, $values);
    execute($db, 'inserted again', $insert, array_fill(0, count($values), null));
    execute($db, 'read', 'SELECT ' . COLUMNS . ' FROM types WHERE id > ? ORDER BY id', [-1]);
    $named = $db->prepare('SELECT :n + 1, :s, :b');
    foreach ([[1, 'a', true], [null, null, false], [3, "é'\\", null]] as [$n, $s, $b]) {
        $named->bindValue('n', $n, PDO::PARAM_INT);
        $named->bindValue('s', $s);
        $named->bindValue('b', $b, PDO::PARAM_BOOL);
        $named->execute();
        show('named', $named->fetchAll());
    }
    fails('syntax', PDOException::class, fn() => execute($db, '', 'SELEKT ?', [1]));
}

function batch(PDO $db): void
{
    section('batch');
    query($db, 'create', 'CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))');
    $insert = $db->prepare('INSERT INTO many VALUES (?, ?, ?)');
    $db->beginTransaction();
    for ($n = 1; $n <= 1000; $n++) {
        $insert->execute([$n, $n % 7 ? "näme $n" : null, '2026-01-01 00:00:00.000001']);
    }
    $db->commit();
    query($db, 'there', 'SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many');
}

function blobs(PDO $db): void
{
    $db->exec('CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)');
    $db->exec('DELETE FROM large');
    foreach ([MIB, 17 * MIB, 0] as $id => $length) {
        execute($db, 'inserted', 'INSERT INTO large VALUES (?, ?)', [$id, blob($length)]);
        execute($db, 'read back', 'SELECT LENGTH(data), CRC32(data), data FROM large WHERE id = ?', [$id]);
    }
}

function streaming(): void
{
    section('streaming');
    $db = connect([PDO::MYSQL_ATTR_USE_BUFFERED_QUERY => false, PDO::ATTR_EMULATE_PREPARES => false]);
    foreach ([false, true] as $prepared) {
        $statement = $prepared ? $db->prepare(JOIN) : $db->query(JOIN);
        $prepared && $statement->execute();
        $count = $total = 0;
        foreach ($statement as $row) {
            $count++;
            $total += $row[0];
        }
        show('rows', [$count, $total]);
        $statement->closeCursor();
    }
    $left = $db->query(JOIN);
    show('first', $left->fetch());
    fails('out of sync', PDOException::class, fn() => $db->query('SELECT 1'));
    $left->closeCursor();
    query($db, 'still in order', "SELECT 'yes'");
}

function multi(PDO $db): void
{
    section('multi');
    results($db->query('SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0'));
    fails('in the middle', PDOException::class,
        fn() => results($db->query("SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'")));
    query($db, 'still in order', "SELECT 'yes'");
}

function procedure(PDO $db, PDO $server): void
{
    section('procedure');
    query($db, 'create', shared('procedure'));
    foreach ([$db, $server] as $one) {
        $call = $one->prepare('CALL counted(?, @twice)');
        $call->execute([20]);
        results($call);
        $call->closeCursor();
        query($one, 'out', 'SELECT @twice');
    }
}

function transaction(PDO $db): void
{
    section('transaction');
    $count = 'SELECT COUNT(*), MAX(id) FROM many';
    foreach (['commit', 'rollBack'] as $end) {
        $db->beginTransaction();
        query($db, 'insert', "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001");
        query($db, 'savepoint', 'SAVEPOINT here');
        query($db, 'insert', "INSERT INTO many VALUES (2002, 'a', NULL)");
        query($db, 'rollback to', 'ROLLBACK TO SAVEPOINT here');
        query($db, 'inside', $count);
        show('in a transaction', $db->inTransaction());
        $db->$end();
        query($db, "after $end", $count);
    }
    // The server's status flags tell PDO of the implicit commit.
    $db->beginTransaction();
    query($db, 'implicit commit', 'CREATE TABLE IF NOT EXISTS many (id INT)');
    show('in a transaction', $db->inTransaction());
    fails('no transaction', PDOException::class, fn() => $db->rollBack());
    $db->setAttribute(PDO::ATTR_AUTOCOMMIT, 0);
    query($db, 'delete', 'DELETE FROM many WHERE id > 100');
    query($db, 'rollback', 'ROLLBACK');
    $db->setAttribute(PDO::ATTR_AUTOCOMMIT, 1);
    query($db, 'after', $count);
}

function errors(PDO $db, PDO $server): void
{
    section('errors');
    foreach (FAILING as $sql) {
        fails('error', PDOException::class, fn() => $db->query($sql));
    }
    fails('prepared', PDOException::class,
        fn() => execute($server, '', 'INSERT INTO many VALUES (?, ?, ?)', [1, 'a', null]));
    fails('login', PDOException::class, fn() => connect([], 'wrong'));
    query($db, 'still in order', "SELECT 'yes'");
}

function warnings(PDO $db): void
{
    section('warnings');
    query($db, 'value', "SELECT CAST('12abc' AS SIGNED), 1 / 0");
    query($db, 'warnings', 'SHOW WARNINGS');
    query($db, 'note', 'CREATE TABLE IF NOT EXISTS many (id INT)');
    query($db, 'note', 'SHOW WARNINGS');
}

function metadata(PDO $db, PDO $server): void
{
    section('metadata');
    foreach ([$db, $server] as $one) {
        $statement = $one->prepare(METADATA . ' WHERE id > ?');
        $statement->execute([0]);
        for ($n = 0; $n < $statement->columnCount(); $n++) {
            show('column', $statement->getColumnMeta($n));
        }
        $statement->closeCursor();
    }
}

function load_data(PDO $db): void
{
    section('load-data');
    $file = rows_file();
    show('loaded', $db->exec("LOAD DATA LOCAL INFILE '$file' INTO TABLE many CHARACTER SET utf8mb4"));
    query($db, 'there', 'SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000');
    unlink($file);
    fails('no file', PDOException::class,
        fn() => $db->exec("LOAD DATA LOCAL INFILE '$file' INTO TABLE many CHARACTER SET utf8mb4"));
    query($db, 'still in order', "SELECT 'yes'");
}

function bound(PDO $db, PDO $server): void
{
    section('bound');
    if (env('BEGIN') !== '') {
        $db->exec(env('BEGIN'));
    }
    $server->prepare('SET @atone_xid = ?')->execute([$db->query('SELECT @atone_xid')->fetchColumn()]);
    query($db, 'insert', "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)");
    query($db, 'insert rows', "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)");
    query($db, 'update by key', 'UPDATE account SET balance = balance - 10.25 WHERE id = 1');
    query($db, 'update by name', "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'");
    query($db, 'update of nothing', 'UPDATE account SET balance = balance WHERE id = 1');
    query($db, 'delete', 'DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1');
    foreach ([[$db, 3], [$server, 6]] as [$one, $id]) {
        $insert = 'INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)';
        $blob = blob(MIB);
        execute($one, 'insert', $insert, [$id, '2026-05-05 05:05:05.000005', "it's \"ü\" \\", $blob, '{"b": [1]}', 1e-7]);
        execute($one, 'again', $insert, [$id + 1, null, null, null, null, null]);
        execute($one, 'update', 'UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)', [0.25, null, 1, $id]);
        execute($one, 'delete', 'DELETE FROM note WHERE id = ?', [$id + 1]);
        execute($one, 'read', 'SELECT * FROM note WHERE id < ?', [$id + 2]);
        fails('duplicate key', PDOException::class, fn() => execute($one, '', $insert, [$id, null, null, null, null, null]));
        $one->beginTransaction();
        execute($one, 'update', 'UPDATE account SET balance = ? WHERE id IN (2, 3, 4)', [$id]);
        query($one, 'savepoint', 'SAVEPOINT here');
        query($one, 'delete', 'DELETE FROM account');
        query($one, 'rollback to', 'ROLLBACK TO SAVEPOINT here');
        execute($one, 'insert', "INSERT INTO account VALUES (?, ?, 1)", [500 + $id, "inside $id"]);
        $one->commit();
        $one->beginTransaction();
        query($one, 'delete', 'DELETE FROM account WHERE id < 10');
        $one->rollBack();
        query($one, 'account', 'SELECT * FROM account ORDER BY id');
        query($one, 'note', 'SELECT * FROM note ORDER BY id');
    }
    if (env('END') !== '') {
        $db->exec(env('END'));
    }
    query($db, 'still in order', "SELECT 'yes'");
}

$db = connect([PDO::ATTR_EMULATE_PREPARES => true]);
$server = connect([PDO::ATTR_EMULATE_PREPARES => false]);
if (env('MODE') === 'bound') {
    bound($db, $server);
} else {
    login($db);
    text_protocol($db);
    section('parameters');
    parameters($db);
    section('prepared');
    parameters($server);
    batch($server);
    section('blobs');
    blobs($db);
    section('blobs-prepared');
    blobs($server);
    streaming();
    multi($db);
    procedure($db, $server);
    transaction($db);
    errors($db, $server);
    warnings($db);
    metadata($db, $server);
    load_data($db);
}
section('end');
