"""A consumer that takes each message once, however often it comes: by the id at its beginning."""

import sqlite3
import sys


def main() -> None:
    database = sqlite3.connect("taken.db")
    database.execute("CREATE TABLE IF NOT EXISTS taken (id TEXT PRIMARY KEY)")
    for line in sys.stdin:
        message_id, _, payload = line.rstrip("\n").partition(" ")
        try:
            with database:  # what is done and that it is done, in one transaction: both, or neither
                database.execute("INSERT INTO taken VALUES (?)", (message_id,))
                print("taken:", payload, flush=True)
        except sqlite3.IntegrityError:
            print("again:", message_id, flush=True)


if __name__ == "__main__":
    main()
