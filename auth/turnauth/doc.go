// Package turnauth holds the ways in which TURN clients show who they are, as
// auth.Authorizers that compose with auth.Any:
//
//   - Users: names with passwords or keys, long-term and short-term (RFC 8489
//     Section 9), that may change while the server runs;
//   - Secrets: names that carry the time until they hold, with passwords that
//     whoever shares a secret can work out (the "TURN REST API");
//   - OAuth: access tokens that an authorization server sealed (RFC 7635);
//   - ClientCert: certificates of TLS clients;
//   - Stored: all but the last from a database, which is a Store. The packages
//     auth/sqlauth and auth/redisauth read coturn's; Cache keeps what they
//     said for a bounded time.
//
// But for ClientCert they answer to nothing but auth.Relay, so that a TURN user
// is not by accident one of the control plane.
package turnauth
