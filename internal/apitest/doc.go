// Package apitest holds the exported API of every public package as text,
// under testdata, so that a change of the API is a diff that somebody reads.
// Its tests also ask that what is exported is documented.
//
// After a change that is meant:
//
//	go test ./internal/apitest -update
package apitest
