"""Tables: the columns, rows and contents of records, and the database that has them."""
