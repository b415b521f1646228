CREATE PROCEDURE counted(IN n INT, OUT twice INT)
BEGIN
  SELECT n AS n, 'first; result' AS name;
  SELECT n + 1, n + 2 UNION ALL SELECT n + 3, NULL;
  SET twice = n * 2;
END
