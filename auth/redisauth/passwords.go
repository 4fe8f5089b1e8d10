package redisauth

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// PasswordHash returns a function for passwords.Authorizer.Hash that reads the
// string at prefix and the user's name, "media/user/" and "ann" for example. No
// such key is an unknown user.
func (d *DB) PasswordHash(prefix string) func(ctx context.Context, user string) (string, error) {
	return func(ctx context.Context, user string) (string, error) {
		hash, err := d.Client.Get(ctx, prefix+user).Result()
		if errors.Is(err, redis.Nil) {
			return "", nil
		}
		return hash, failed(err)
	}
}
