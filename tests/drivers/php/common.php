<?php
// What both programs share: their settings, and how they print what they see.
declare(strict_types=1);

ini_set('memory_limit', '512M');
set_error_handler(function (int $level, string $message, string $file, int $line): bool {
    // A warning is something that the driver tells.
    echo "warning: $message\n";
    return true;
});

const MIB = 1024 * 1024;
const COLUMNS = 'i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt, latin, b, vb, lb, e, s, j';

function env(string $name): string
{
    return (string) getenv("DRIVER_$name");
}

function shared(string $name): string
{
    return file_get_contents(env('SQL') . "/$name.sql");
}

function section(string $name): void
{
    echo "== $name\n";
}

/** A value with its type; long ones as length and checksum. */
function text(mixed $value): string
{
    if (is_array($value)) {
        $parts = [];
        foreach ($value as $key => $inner) {
            $parts[] = (is_int($key) ? '' : "$key: ") . text($inner);
        }
        return '(' . implode(', ', $parts) . ')';
    }
    if (is_object($value)) {
        return text(get_object_vars($value));
    }
    if (is_string($value)) {
        if (strlen($value) > 300) {
            return strlen($value) . ' bytes, crc ' . crc32($value);
        }
        return preg_match('//u', $value) ? json_encode($value, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) : 'bytes ' . bin2hex($value);
    }
    return get_debug_type($value) . ' ' . var_export($value, true);
}

function show(string $label, mixed $value): void
{
    echo "$label: ", text($value), "\n";
}

function fails(string $label, string $kind, callable $action): void
{
    try {
        $action();
    } catch (Throwable $error) {
        if (!$error instanceof $kind) {
            throw $error;
        }
        $state = $error instanceof mysqli_sql_exception ? $error->getSqlState() : ($error->errorInfo ?? null);
        show($label, [get_class($error), $error->getCode(), $error->getMessage(), $state]);
        return;
    }
    throw new LogicException("$label: no error");
}

function blob(int $length): string
{
    return substr(str_repeat(implode('', array_map('chr', range(0, 255))), intdiv($length, 256) + 1), 0, $length);
}

/** A row of every type. */
function values(): array
{
    return [
        -1, 2, -3, 4, -5, 6, '18446744073709551615', 1.25, -1e200, '-123456789.0123456789', "\2\1", 1999, '2024-02-29',
        '25:01:02.000017', '2024-02-29 23:59:59.999999', '2001-02-03 04:05:06.789', '日本', "it's \"😀\" \\ \0 ?",
        str_repeat('x', 60000), 'é', "\0\1\2\3", "\xff'\\\"\0", '', 'three', 'y,z', '{"a": "😀"}',
    ];
}

/** How each error that a statement can give is provoked. */
const FAILING = [
    "INSERT INTO many VALUES (1, 'a', NULL)", 'SELEKT 1', 'SELECT * FROM nowhere', 'SELECT nothing FROM many',
    "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)", 'INSERT INTO many (id) VALUES (NULL)', 'USE nowhere',
    'SET GLOBAL max_connections = 10',
];
const JOIN = 'SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 10 ORDER BY 1, b.id';
const METADATA = "SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t";

/** A file for LOAD DATA. */
function rows_file(): string
{
    $file = env('TMP') . '/rows.txt';
    $lines = '';
    for ($n = 5001; $n <= 8000; $n++) {
        $lines .= "$n\tname é $n\t\\N\n";
    }
    file_put_contents($file, $lines);
    return $file;
}
