// Package redisauth is a turnauth.Store on Redis with coturn's keys, so that
// the database of a coturn works unchanged beside it or in its place:
//
//	turn/realm/REALM/user/NAME/key        the key, in hexadecimal digits
//	turn/realm/REALM/secret               a set of secrets
//	turn/realm/REALM/allowed-peer-ip      a set of ranges, denied-peer-ip likewise
//	turn/realm/REALM/max-bps              a number; total-quota and user-quota likewise
//	turn/origin/ORIGIN                    the realm
//	turn/oauth/kid/ID                     a hash: ikm_key, timestamp, lifetime, as_rs_alg, realm
//	turn/admin_user/NAME                  a hash: password, realm
//
// It links go-redis, which writes what goes wrong with its connections to
// standard error, besides returning it. That is one setting for the whole
// process, so it is the host's: redis.SetLogger, or logging.Disable.
package redisauth
