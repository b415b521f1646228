// go-sql-driver/mysql: prepared on the server by default, with parameters put in by the driver where the DSN says so.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

var (
	ctx    = context.Background()
	schema = os.Getenv("DRIVER_SCHEMA")
)

// config is what the environment asks for, with changes.
func config(change func(*mysql.Config)) *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", os.Getenv("DRIVER_HOST")+":"+os.Getenv("DRIVER_PORT")
	c.User, c.Passwd, c.DBName = os.Getenv("DRIVER_USER"), os.Getenv("DRIVER_PASSWORD"), schema
	c.ParseTime, c.MultiStatements, c.AllowAllFiles = true, true, true
	c.ConnectionAttributes = "program_name:drivers"
	if file := os.Getenv("DRIVER_CA"); file != "" {
		pem, err := os.ReadFile(file)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c.TLS = &tls.Config{RootCAs: roots, ServerName: os.Getenv("DRIVER_HOST")}
	}
	if change != nil {
		change(c)
	}
	return c
}

func open(change func(*mysql.Config)) *sql.DB {
	connector, err := mysql.NewConnector(config(change))
	check(err)
	return sql.OpenDB(connector)
}

func connect(change func(*mysql.Config)) *sql.Conn {
	c, err := open(change).Conn(ctx)
	check(err)
	return c
}

func interpolate(c *mysql.Config) { c.InterpolateParams = true }

func main() {
	log.SetFlags(log.Lshortfile)
	check(mysql.SetLogger(log.New(io.Discard, "", 0)))
	if os.Getenv("DRIVER_MODE") == "bound" {
		bound()
	} else {
		db := connect(nil)
		text := connect(interpolate)
		login(db)
		types(db)
		parameters(text, "parameters")
		parameters(db, "prepared")
		batch(db)
		blobs(text, "blobs")
		blobs(db, "blobs-prepared")
		streaming(db)
		multi(db)
		procedure(db)
		transaction(db)
		failures(db)
		warnings(db)
		metadata(db)
		loadData(db)
		reset(db)
		pool()
	}
	section("end")
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func section(name string) { fmt.Println("==", name) }

// text is a value with its type; long ones as length and checksum.
func text(value any) string {
	switch v := value.(type) {
	case []byte:
		if len(v) > 200 {
			return fmt.Sprintf("%d bytes, crc %d", len(v), crc32.ChecksumIEEE(v))
		}
		return fmt.Sprintf("[]byte %q", v)
	case string:
		if len(v) > 200 {
			return fmt.Sprintf("%d characters, crc %d", len(v), crc32.ChecksumIEEE([]byte(v)))
		}
		return fmt.Sprintf("%q", v)
	case time.Time:
		return v.Format("2006-01-02 15:04:05.999999")
	case []any:
		var parts []string
		for _, part := range v {
			parts = append(parts, text(part))
		}
		return "(" + strings.Join(parts, ", ") + ")"
	default:
		return fmt.Sprintf("%T %v", v, v)
	}
}

func show(label string, values ...any) { fmt.Println(label+":", text(values)) }

func shared(name string) string {
	content, err := os.ReadFile(os.Getenv("DRIVER_SQL") + "/" + name + ".sql")
	check(err)
	return string(content)
}

func failed(label string, err error) {
	var server *mysql.MySQLError
	switch {
	case err == nil:
		log.Fatalf("%s: no error", label)
	case errors.As(err, &server):
		fmt.Printf("%s: %d %s %s\n", label, server.Number, string(server.SQLState[:]), server.Message)
	default:
		fmt.Printf("%s: %v\n", label, err)
	}
}

// do runs a statement without rows.
func do(db *sql.Conn, label, statement string, args ...any) {
	result, err := db.ExecContext(ctx, statement, args...)
	check(err)
	affected, err := result.RowsAffected()
	check(err)
	id, err := result.LastInsertId()
	check(err)
	show(label, affected, id)
}

// next is the next row, as the driver has it.
func next(rows *sql.Rows) []any {
	columns, err := rows.Columns()
	check(err)
	values := make([]any, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	check(rows.Scan(targets...))
	return values
}

// results prints all results of a query.
func results(label string, rows *sql.Rows) error {
	defer rows.Close()
	for {
		columns, err := rows.Columns()
		check(err)
		fmt.Printf("%s: columns %q\n", label, columns)
		for rows.Next() {
			show("  row", next(rows)...)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if !rows.NextResultSet() {
			return rows.Err()
		}
	}
}

func query(db *sql.Conn, label, statement string, args ...any) {
	rows, err := db.QueryContext(ctx, statement, args...)
	check(err)
	check(results(label, rows))
}

func login(db *sql.Conn) {
	section("login")
	query(db, "version", "SELECT VERSION(), DATABASE(), CURRENT_USER()")
	query(db, "charset", "SELECT @@character_set_client, @@character_set_results, @@collation_connection")
	query(db, "modes", "SELECT @@sql_mode, @@autocommit, @@max_allowed_packet")
	var name, value string
	check(db.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &value))
	show("tls", value != "")
}

func types(db *sql.Conn) {
	section("text")
	do(db, "create", shared("types"))
	do(db, "insert", shared("insert"))
	query(db, "read", "SELECT * FROM types ORDER BY id")
	do(db, "update", "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3")
	do(db, "update of nothing", "UPDATE types SET i32 = 5 WHERE id = 1")
	do(db, "delete", "DELETE FROM types WHERE id = 2")
	do(db, "generated key", "INSERT INTO types (v) VALUES ('a'), ('b')")
	query(db, "left", "SELECT id, v FROM types ORDER BY id")
}

const columns = "i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt, latin, b, vb, lb, e, s, j"

func values() []any {
	return []any{
		int8(-1), uint8(2), int16(-3), 4, int32(-5), int64(1) << 62, ^uint64(0), float32(1.25), -1e200,
		"-123456789.0123456789", []byte{2, 1}, 1999, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), "-25:01:02.000017",
		time.Date(2024, 2, 29, 23, 59, 59, 999999000, time.UTC), time.Date(2001, 2, 3, 4, 5, 6, 789000000, time.UTC),
		"日本", "it's \"😀\" \\ \x00 ?", strings.Repeat("x", 60000), "é", []byte{0, 1, 2, 3}, []byte("\xff'\\\"\x00"), []byte{},
		"three", "y,z", `{"a": "😀"}`,
	}
}

func parameters(db *sql.Conn, name string) {
	section(name)
	all := values()
	none := make([]any, len(all))
	insert := "INSERT INTO types (" + columns + ") VALUES (?" + strings.Repeat(", ?", len(all)-1) + ")"
	do(db, "clear", "DELETE FROM types WHERE id > ?", 0)
	do(db, "inserted", insert, all...)
	do(db, "inserted again", insert, none...)
	query(db, "read", "SELECT "+columns+" FROM types WHERE id > ? ORDER BY id", -1)
	query(db, "found", "SELECT i32, v FROM types WHERE v = ?", all[17])
	// Several statements open at a time, closed in another order.
	one, err := db.PrepareContext(ctx, "SELECT ? + 1, ?")
	check(err)
	two, err := db.PrepareContext(ctx, "UPDATE types SET v = ? WHERE i8 = ?")
	check(err)
	for _, args := range [][]any{{1, "a"}, {"2", nil}, {nil, []byte("b")}, {3.5, time.Unix(0, 0).UTC()}} {
		rows, err := one.QueryContext(ctx, args...)
		check(err)
		check(results("one", rows))
		result, err := two.ExecContext(ctx, args[1], -1)
		check(err)
		affected, err := result.RowsAffected()
		check(err)
		show("two", affected)
	}
	check(one.Close())
	_, err = two.ExecContext(ctx, "last", -1)
	check(err)
	check(two.Close())
	_, err = db.PrepareContext(ctx, "SELEKT ?")
	failed("prepare", err)
}

func batch(db *sql.Conn) {
	section("batch")
	do(db, "create", "CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))")
	statement, err := db.PrepareContext(ctx, "INSERT INTO many VALUES (?, ?, ?)")
	check(err)
	at := time.Date(2026, 1, 1, 0, 0, 0, 1000, time.UTC)
	tx, err := db.BeginTx(ctx, nil)
	check(err)
	for n := 1; n <= 500; n++ {
		_, err := tx.Stmt(statement).Exec(n, fmt.Sprint("näme ", n), at.Add(time.Duration(n)*time.Second))
		check(err)
	}
	check(tx.Commit())
	check(statement.Close())
	var args []any
	for n := 501; n <= 1000; n++ {
		args = append(args, n, nil, at)
	}
	do(db, "many rows", "INSERT INTO many VALUES (?, ?, ?)"+strings.Repeat(", (?, ?, ?)", 499), args...)
	query(db, "there", "SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many")
}

func blob(length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i)
	}
	return data
}

func blobs(db *sql.Conn, name string) {
	section(name)
	do(db, "create", "CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)")
	do(db, "clear", "DELETE FROM large")
	for id, length := range []int{1 << 20, 17 << 20, 0} {
		do(db, "inserted", "INSERT INTO large VALUES (?, ?)", id, blob(length))
		query(db, "stored", "SELECT LENGTH(data), CRC32(data) FROM large WHERE id = ?", id)
		query(db, "read back", "SELECT data FROM large WHERE id = ?", id)
	}
}

func streaming(db *sql.Conn) {
	section("streaming")
	rows, err := db.QueryContext(ctx, "SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= ? ORDER BY 1, b.id", 10)
	check(err)
	count, total := 0, int64(0)
	for rows.Next() {
		row := next(rows)
		if count++; count == 1 {
			show("first", row...)
		}
		total += row[0].(int64)
	}
	check(rows.Err())
	show("rows", count, total)
	// The rest of a result that is not wanted any more.
	rows, err = db.QueryContext(ctx, "SELECT a.id FROM many a JOIN many b ON b.id <= 10")
	check(err)
	show("one", rows.Next())
	check(rows.Close())
	query(db, "still in order", "SELECT 'yes'")
}

func multi(db *sql.Conn) {
	section("multi")
	query(db, "several", "SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0")
	do(db, "several", "INSERT INTO many VALUES (991, NULL, NULL); DELETE FROM many WHERE id = 991")
	rows, err := db.QueryContext(ctx, "SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'")
	check(err)
	failed("in the middle", results("several", rows))
	query(db, "still in order", "SELECT 'yes'")
}

func procedure(db *sql.Conn) {
	section("procedure")
	do(db, "create", shared("procedure"))
	query(db, "call", "CALL counted(20, @twice)")
	query(db, "prepared call", "CALL counted(?, @twice)", 30)
	query(db, "out", "SELECT @twice")
}

func transaction(db *sql.Conn) {
	section("transaction")
	count := "SELECT COUNT(*), MAX(id) FROM many"
	for _, commit := range []bool{true, false} {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		check(err)
		do(db, "insert", "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001")
		do(db, "savepoint", "SAVEPOINT here")
		do(db, "insert", "INSERT INTO many VALUES (2002, 'a', NULL)")
		do(db, "rollback to", "ROLLBACK TO SAVEPOINT here")
		query(db, "inside", count)
		if commit {
			check(tx.Commit())
		} else {
			check(tx.Rollback())
		}
		query(db, "after", count)
	}
	_, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	check(err)
	_, err = db.ExecContext(ctx, "DELETE FROM many")
	failed("read only", err)
	do(db, "rollback", "ROLLBACK")
}

func failures(db *sql.Conn) {
	section("errors")
	for _, statement := range []string{
		"INSERT INTO many VALUES (1, 'a', NULL)", "SELEKT 1", "SELECT * FROM nowhere", "SELECT nothing FROM many",
		"INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)", "INSERT INTO many (id) VALUES (NULL)", "USE nowhere",
		"SET GLOBAL max_connections = 10", "",
	} {
		_, err := db.ExecContext(ctx, statement)
		failed("error", err)
	}
	_, err := db.ExecContext(ctx, "INSERT INTO many VALUES (?, ?, ?)", 1, "a", nil)
	failed("prepared", err)
	query(db, "still in order", "SELECT 'yes'")
}

func warnings(db *sql.Conn) {
	section("warnings")
	query(db, "value", "SELECT CAST('12abc' AS SIGNED), 1 / 0")
	query(db, "warnings", "SHOW WARNINGS")
	do(db, "note", "CREATE TABLE IF NOT EXISTS many (id INT)")
	query(db, "note", "SHOW WARNINGS")
}

func metadata(db *sql.Conn) {
	section("metadata")
	for _, args := range [][]any{{}, {1}} {
		statement := "SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t"
		if len(args) > 0 {
			statement += " WHERE id = ?"
		}
		rows, err := db.QueryContext(ctx, statement, args...)
		check(err)
		types, err := rows.ColumnTypes()
		check(err)
		for _, t := range types {
			nullable, _ := t.Nullable()
			precision, scale, sized := t.DecimalSize()
			fmt.Println(t.Name(), t.DatabaseTypeName(), t.ScanType(), nullable, precision, scale, sized)
		}
		check(rows.Close())
	}
}

func loadData(db *sql.Conn) {
	section("load-data")
	var lines strings.Builder
	for n := 5001; n <= 8000; n++ {
		fmt.Fprintf(&lines, "%d\tname é %d\t\\N\n", n, n)
	}
	file := os.Getenv("DRIVER_TMP") + "/rows.txt"
	check(os.WriteFile(file, []byte(lines.String()), 0o600))
	do(db, "file", "LOAD DATA LOCAL INFILE '"+file+"' INTO TABLE many CHARACTER SET utf8mb4")
	mysql.RegisterReaderHandler("rows", func() io.Reader {
		return strings.NewReader(strings.ReplaceAll(lines.String(), "name", "name again"))
	})
	do(db, "reader", "LOAD DATA LOCAL INFILE 'Reader::rows' REPLACE INTO TABLE many CHARACTER SET utf8mb4")
	query(db, "loaded", "SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000")
	check(os.Remove(file))
	_, err := db.ExecContext(ctx, "LOAD DATA LOCAL INFILE '"+file+"' INTO TABLE many")
	failed("no file", err)
	query(db, "still in order", "SELECT 'yes'")
}

func reset(db *sql.Conn) {
	section("reset")
	check(db.PingContext(ctx))
	// What a cancelled statement leaves.
	slow := connect(nil)
	deadline, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := slow.ExecContext(deadline, "DO SLEEP(30)")
	failed("cancelled", err)
	other := connect(nil)
	var id int64
	check(other.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id))
	do(db, "kill", fmt.Sprint("KILL ", id))
	for left := 1; left > 0; {
		check(db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", id).Scan(&left))
	}
	_, err = other.ExecContext(ctx, "SELECT 1")
	show("killed", err != nil)
	refused, err := open(func(c *mysql.Config) { c.Passwd = "wrong" }).Conn(ctx)
	show("refused", refused == nil)
	failed("refused", err)
	_, err = open(func(c *mysql.Config) { c.DBName = "nowhere" }).Conn(ctx)
	failed("refused", err)
}

func pool() {
	section("pool")
	db := open(func(c *mysql.Config) {
		c.Params = map[string]string{"sql_mode": "'ANSI'", "time_zone": "'+03:00'"}
		c.ClientFoundRows = true
		c.Collation = "utf8mb4_bin"
	})
	db.SetMaxOpenConns(3)
	answers := make(chan string)
	for n := 0; n < 30; n++ {
		go func(n int) {
			var back int
			var mode string
			err := db.QueryRow(`SELECT ?, @@time_zone FROM (SELECT 1 AS "a") AS t`, n).Scan(&back, &mode)
			answers <- fmt.Sprint(back == n, mode, err)
		}(n)
	}
	for n := 0; n < 30; n++ {
		show("answer", <-answers)
	}
	show("connections", db.Stats().OpenConnections <= 3)
	result, err := db.Exec("UPDATE many SET name = name WHERE id < 10")
	check(err)
	affected, err := result.RowsAffected()
	check(err)
	show("found", affected)
	check(db.Close())
}
