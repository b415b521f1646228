package main

import (
	"database/sql"
	"os"
	"time"
)

// bound runs DML between the two statements of the environment; what it prints has to be the same with and without them.
func bound() {
	section("bound")
	db := connect(nil)
	text := connect(interpolate)
	if begin := os.Getenv("DRIVER_BEGIN"); begin != "" {
		_, err := db.ExecContext(ctx, begin)
		check(err)
	}
	share(db, text)
	statements(db)
	do(text, "with the driver's parameters", "UPDATE account SET name = ? WHERE id = ?", "anna 'x' \\", 3)
	transactions(db)
	query(db, "account", "SELECT * FROM account ORDER BY id")
	query(db, "note", "SELECT * FROM note ORDER BY id")
	if end := os.Getenv("DRIVER_END"); end != "" {
		_, err := db.ExecContext(ctx, end)
		check(err)
	}
	query(db, "still in order", "SELECT 'yes'")
}

// share binds the second connection to the first one's global transaction.
func share(db, text *sql.Conn) {
	var xid sql.NullString
	check(db.QueryRowContext(ctx, "SELECT @atone_xid").Scan(&xid))
	do(text, "shared", "SET @atone_xid = ?", xid)
}

func statements(db *sql.Conn) {
	do(db, "insert", "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)")
	do(db, "insert rows", "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)")
	do(db, "update by key", "UPDATE account SET balance = balance - 10.25 WHERE id = 1")
	do(db, "update by name", "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'")
	do(db, "update of nothing", "UPDATE account SET balance = balance WHERE id = 1")
	do(db, "delete", "DELETE FROM account WHERE name IS NULL ORDER BY id DESC LIMIT 1")
	at := time.Date(2026, 5, 5, 5, 5, 5, 5000, time.UTC)
	insert, err := db.PrepareContext(ctx, "INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)")
	check(err)
	for _, args := range [][]any{
		{3, at, "it's \"ü\" \\", blob(1 << 20), `{"b": [1]}`, 1e-7},
		{4, nil, nil, nil, nil, nil},
		{"5", "2026-01-01", []byte("bytes"), "", "[]", 7},
	} {
		result, err := insert.ExecContext(ctx, args...)
		check(err)
		affected, err := result.RowsAffected()
		check(err)
		show("prepared insert", affected)
	}
	_, err = insert.ExecContext(ctx, 3, nil, nil, nil, nil, nil)
	failed("duplicate key", err)
	check(insert.Close())
	do(db, "prepared update", "UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)", 0.25, nil, 1, 3)
	do(db, "prepared delete", "DELETE FROM note WHERE id = ?", 2)
	query(db, "prepared read", "SELECT * FROM note WHERE id < ?", 4)
	_, err = db.ExecContext(ctx, "INSERT INTO account (name, balance) VALUES ('ann', 1)")
	failed("duplicate key", err)
}

func transactions(db *sql.Conn) {
	tx, err := db.BeginTx(ctx, nil)
	check(err)
	do(db, "update", "UPDATE account SET balance = 0 WHERE id IN (?, ?, ?)", 2, 3, 4)
	do(db, "savepoint", "SAVEPOINT here")
	do(db, "delete", "DELETE FROM account")
	query(db, "inside", "SELECT COUNT(*) FROM account")
	do(db, "rollback to", "ROLLBACK TO SAVEPOINT here")
	do(db, "insert", "INSERT INTO account VALUES (?, 'inside', 1)", 500)
	check(tx.Commit())
	tx, err = db.BeginTx(ctx, nil)
	check(err)
	do(db, "delete", "DELETE FROM account WHERE id < ?", 10)
	check(tx.Rollback())
	do(db, "update", "UPDATE account SET name = 'last' WHERE id = 4")
}
