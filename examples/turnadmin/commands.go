package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runnel-media/runnel/auth/turnauth"
)

// A command is one of those that a run has one of.
type command struct {
	flags    string // short and long name
	argument string // what it is called; "": none
	needs    string // the options, by their letters, that it can't do without
	help     string
	offline  bool // it needs no database
	do       func(context.Context, database, *options) error
}

var limits = []string{turnauth.MaxBPS, turnauth.TotalQuota, turnauth.UserQuota}

var commands = []command{
	{flags: "a add", needs: "urp", help: "adds a user, or changes his password", do: addUser},
	{flags: "d delete", needs: "ur", help: "deletes a user", do: deleteUser},
	{flags: "l list", help: "lists users, with -r those of a realm", do: list(turnauth.UserTable)},
	{flags: "k key", needs: "urp", help: "prints the key that stands for a password", offline: true, do: printKey},

	{flags: "s set-secret", argument: "SECRET", needs: "r", help: "adds a shared secret", do: put(turnauth.SecretTable)},
	{flags: "S show-secret", help: "lists shared secrets, with -r those of a realm", do: list(turnauth.SecretTable)},
	{flags: "X delete-secret", argument: "SECRET", needs: "r", help: "deletes a shared secret", do: remove(turnauth.SecretTable)},
	{flags: "delete-all-secrets", needs: "r", help: "deletes all shared secrets of a realm", do: deleteSecrets},

	{flags: "g set-realm-option", needs: "r", help: "sets --max-bps, --total-quota, --user-quota of a realm", do: setLimits},
	{flags: "G list-realm-options", help: "lists the options of realms", do: list(turnauth.OptionTable)},
	{flags: "O add-origin", needs: "or", help: "puts an origin into a realm", do: addOrigin},
	{flags: "R del-origin", needs: "o", help: "deletes an origin", do: deleteOrigin},
	{flags: "I list-origins", help: "lists the origins of realms", do: list(turnauth.OriginTable)},

	{flags: "allow-peer", argument: "RANGE", help: "allows peers, in all realms or that of -r", do: put(turnauth.AllowTable)},
	{flags: "deny-peer", argument: "RANGE", help: "denies peers, in all realms or that of -r", do: put(turnauth.DenyTable)},
	{flags: "delete-allow-peer", argument: "RANGE", help: "deletes such a rule", do: remove(turnauth.AllowTable)},
	{flags: "delete-deny-peer", argument: "RANGE", help: "deletes such a rule", do: remove(turnauth.DenyTable)},
	{flags: "list-peers", help: "lists those rules", do: listPeers},

	{flags: "add-oauth-key", argument: "ID", help: "adds an OAuth key, of -r's realm or all", do: addOAuthKey},
	{flags: "delete-oauth-key", argument: "ID", help: "deletes an OAuth key", do: deleteOAuthKey},
	{flags: "list-oauth-keys", help: "lists OAuth keys, without what is secret", do: listOAuthKeys},

	{flags: "A add-admin", needs: "up", help: "adds an administrator, of -r's realm or all", do: addAdmin},
	{flags: "D delete-admin", needs: "u", help: "deletes an administrator", do: deleteAdmin},
	{flags: "L list-admin", help: "lists administrators", do: list(turnauth.AdminTable)},

	{flags: "create", help: "creates the tables that are missing, and nothing else",
		do: func(context.Context, database, *options) error { return nil }},
}

func addUser(ctx context.Context, db database, o *options) error {
	key := hex.EncodeToString(turnauth.Key(o.user, o.realm, o.password))
	return db.Put(ctx, turnauth.UserTable, turnauth.Row{Realm: o.realm, Name: o.user, Value: key})
}

func deleteUser(ctx context.Context, db database, o *options) error {
	return unknown(db.Delete(ctx, turnauth.UserTable, turnauth.Row{Realm: o.realm, Name: o.user}), "user", o.user)
}

func printKey(_ context.Context, _ database, o *options) error {
	_, err := fmt.Fprintf(o.out, "0x%x\n", turnauth.Key(o.user, o.realm, o.password))
	return err
}

// put and remove are commands whose argument is the name of a row.
func put(t turnauth.Table) func(context.Context, database, *options) error {
	return func(ctx context.Context, db database, o *options) error {
		return db.Put(ctx, t, turnauth.Row{Realm: o.realm, Name: o.argument})
	}
}

func remove(t turnauth.Table) func(context.Context, database, *options) error {
	return func(ctx context.Context, db database, o *options) error {
		row := turnauth.Row{Realm: o.realm, Name: o.argument}
		if checked, err := t.Check(row); err == nil {
			row = checked // a prefix is stored as a range
		}
		return unknown(db.Delete(ctx, t, row), "row", row.Name)
	}
}

func unknown(err error, what, name string) error {
	if errors.Is(err, turnauth.ErrUnknown) {
		return fmt.Errorf("there is no %s %q", what, name)
	}
	return err
}

func deleteSecrets(ctx context.Context, db database, o *options) error {
	secrets, err := db.Secrets(ctx, o.realm)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := db.Delete(ctx, turnauth.SecretTable, turnauth.Row{Realm: o.realm, Name: s}); err != nil {
			return err
		}
	}
	return nil
}

func setLimits(ctx context.Context, db database, o *options) error {
	if len(o.limits) == 0 {
		return errors.New("-g takes --max-bps, --total-quota or --user-quota")
	}
	for _, name := range limits {
		value, given := o.limits[name]
		if !given {
			continue
		}
		row := turnauth.Row{Realm: o.realm, Name: name, Value: value}
		row, err := turnauth.OptionTable.Check(row)
		if err == nil && row.Value == "0" {
			if err = db.Delete(ctx, turnauth.OptionTable, row); errors.Is(err, turnauth.ErrUnknown) {
				err = nil
			}
		} else if err == nil {
			err = db.Put(ctx, turnauth.OptionTable, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func addOrigin(ctx context.Context, db database, o *options) error {
	return db.Put(ctx, turnauth.OriginTable, turnauth.Row{Realm: o.realm, Name: o.origin})
}

func deleteOrigin(ctx context.Context, db database, o *options) error {
	return unknown(db.Delete(ctx, turnauth.OriginTable, turnauth.Row{Name: o.origin}), "origin", o.origin)
}

func addAdmin(ctx context.Context, db database, o *options) error {
	return db.Put(ctx, turnauth.AdminTable, turnauth.Row{Realm: o.realm, Name: o.user, Value: turnauth.AdminPassword(o.password)})
}

func deleteAdmin(ctx context.Context, db database, o *options) error {
	return unknown(db.Delete(ctx, turnauth.AdminTable, turnauth.Row{Name: o.user}), "administrator", o.user)
}

// list prints the rows of a table as coturn's program does. Names are quoted
// if they are not plain, so that a line is a row.
func list(t turnauth.Table) func(context.Context, database, *options) error {
	return func(ctx context.Context, db database, o *options) error {
		var rows []turnauth.Row
		for r, err := range db.Rows(ctx, t, o.realm) {
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		slices.SortFunc(rows, func(a, b turnauth.Row) int {
			return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Name, b.Name))
		})
		for _, r := range rows {
			name, realm := plain(r.Name), plain(r.Realm)
			var err error
			switch {
			case t == turnauth.OriginTable:
				_, err = fmt.Fprintf(o.out, "%s ==>> %s\n", name, realm)
			case t == turnauth.OptionTable:
				_, err = fmt.Fprintf(o.out, "%s[%s]=%s\n", name, realm, plain(r.Value))
			case r.Realm == "":
				_, err = fmt.Fprintln(o.out, name)
			default:
				_, err = fmt.Fprintf(o.out, "%s[%s]\n", name, realm)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func plain(s string) string {
	if quoted := fmt.Sprintf("%q", s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

func listPeers(ctx context.Context, db database, o *options) error {
	for _, c := range []struct {
		word  string
		table turnauth.Table
	}{{"allow", turnauth.AllowTable}, {"deny", turnauth.DenyTable}} {
		if _, err := fmt.Fprintln(o.out, c.word+":"); err != nil {
			return err
		}
		if err := list(c.table)(ctx, db, o); err != nil {
			return err
		}
	}
	return nil
}

func addOAuthKey(ctx context.Context, db database, o *options) error {
	k := &turnauth.OAuthKey{ID: o.argument, Algorithm: cmp.Or(o.algorithm, "A256GCM"), Realm: o.realm,
		Issued: time.Now(), Lifetime: time.Duration(o.lifetime) * time.Second}
	made := o.key == ""
	if made {
		k.Secret = make([]byte, 32)
		rand.Read(k.Secret) // never fails
	} else {
		var err error
		if k.Secret, err = base64.StdEncoding.DecodeString(o.key); err != nil {
			return errors.New("--oauth-key is not base64")
		}
	}
	if err := db.PutOAuthKey(ctx, k); err != nil {
		return err
	}
	if made {
		_, err := fmt.Fprintln(o.out, base64.StdEncoding.EncodeToString(k.Secret))
		return err
	}
	return nil
}

func deleteOAuthKey(ctx context.Context, db database, o *options) error {
	return unknown(db.DeleteOAuthKey(ctx, o.argument), "key", o.argument)
}

func listOAuthKeys(ctx context.Context, db database, o *options) error {
	for k, err := range db.OAuthKeys(ctx) {
		if err != nil {
			return err
		}
		line := plain(k.ID) + " " + plain(cmp.Or(k.Algorithm, "A256GCM"))
		if k.Realm != "" {
			line += " [" + plain(k.Realm) + "]"
		}
		if k.Lifetime > 0 {
			line += " until " + k.Issued.Add(k.Lifetime).UTC().Format(time.RFC3339)
		}
		if err := k.Check(); err != nil {
			line += " of no use"
		}
		if _, err := fmt.Fprintln(o.out, line); err != nil {
			return err
		}
	}
	return nil
}
