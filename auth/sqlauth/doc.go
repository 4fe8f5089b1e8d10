// Package sqlauth is a turnauth.Store on an SQL database with coturn's tables,
// so that the database of a coturn works unchanged beside it or in its place.
//
// The package links no driver. auth/sqlauth/postgres, auth/sqlauth/mysql and
// auth/sqlauth/sqlite open a database with one each; any other driver for
// database/sql of these databases works too:
//
//	db, err := postgres.Open("postgres://turn@db.example.org/coturn")
//	…
//	cache := &turnauth.Cache{Store: db}
//	srv := &turn.Server{Auth: &turnauth.Stored{Store: cache}, Realms: cache, …}
//
// Names and values are never part of a statement's text.
package sqlauth
