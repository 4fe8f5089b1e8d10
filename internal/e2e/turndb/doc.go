// Package turndb holds the tests of the databases that TURN servers read:
// PostgreSQL, MariaDB, Redis and SQLite, started here on loopback, with rows
// that coturn's turnadmin and its sample database wrote, and with rows of
// examples/turnadmin that coturn's reads.
//
// What is missing is skipped, or fails with RUNNEL_E2E=1.
package turndb
