// Turnadmin edits the databases that TURN servers read: users, secrets,
// realms, origins, OAuth keys, peers and administrators, in coturn's schema.
// Its commands are those of coturn's program of the same name, with what that
// one lacks:
//
//	turnadmin -db sqlite:///var/lib/turn/turndb -a -u alice -r example.org -p secret
//	turnadmin -db redis://127.0.0.1/2 -s 'a shared secret' -r example.org
//	turnadmin -db postgres://turn@localhost/turn -l
//
// The database may be given as RUNNEL_DB, and a password or secret as "-p -" and
// "-s -", which read it from standard input, where nobody sees it in a list of
// processes.
// Tables that are missing are created.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/runnel-media/runnel/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "turnadmin:", err)
		}
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	dsn                   string
	command               *command
	argument              string // of the command
	user, realm, password string
	origin                string
	limits                map[string]string // by the names of turnauth.OptionTable
	key, algorithm        string
	lifetime              int64
	out                   io.Writer
}

// run does one command.
func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	o.out = stdout
	for _, secret := range []*string{&o.password, &o.argument} {
		if *secret != "-" {
			continue
		}
		line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading standard input: %w", err)
		}
		*secret = strings.TrimRight(line, "\r\n")
	}
	if err := o.need(); err != nil {
		return err
	}
	if o.command.offline {
		return o.command.do(ctx, nil, o)
	}
	db, err := open(ctx, o.dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return o.command.do(ctx, db, o)
}

func parse(args []string) (*options, error) {
	o := &options{limits: map[string]string{}}
	fs := flag.NewFlagSet("turnadmin", flag.ContinueOnError)
	fs.Usage = func() { usage(fs) }
	fs.StringVar(&o.dsn, "db", "", "")
	for _, alias := range []string{"b", "userdb", "e", "psql-userdb", "sql-userdb", "M", "mysql-userdb", "N", "redis-userdb"} {
		fs.Func(alias, "", func(v string) error {
			var err error
			o.dsn, err = coturnDSN(alias, v)
			return err
		})
	}
	both := func(to *string, short, long string) {
		fs.StringVar(to, short, "", "")
		fs.StringVar(to, long, "", "")
	}
	both(&o.user, "u", "user")
	both(&o.realm, "r", "realm")
	both(&o.password, "p", "password")
	both(&o.origin, "o", "origin")
	for _, name := range limits {
		fs.Func(name, "", func(v string) error {
			o.limits[name] = v
			return nil
		})
	}
	fs.StringVar(&o.key, "oauth-key", "", "")
	fs.StringVar(&o.algorithm, "oauth-alg", "", "")
	fs.Int64Var(&o.lifetime, "oauth-lifetime", 0, "")
	for i := range commands {
		c := &commands[i]
		set := func(v string) error {
			if o.command != nil {
				return errors.New("one command at a time")
			}
			o.command, o.argument = c, v
			return nil
		}
		for _, name := range strings.Fields(c.flags) {
			if c.argument != "" {
				fs.Func(name, "", set)
			} else {
				fs.BoolFunc(name, "", func(string) error { return set("") })
			}
		}
	}
	if err := config.Parse(fs, args); err != nil {
		return nil, err
	}
	if o.command == nil {
		fs.Usage()
		return nil, errors.New("which command?")
	}
	return o, nil
}

// need reports what the command lacks.
func (o *options) need() error {
	given := map[byte]string{'u': o.user, 'r': o.realm, 'p': o.password, 'o': o.origin}
	for _, f := range []byte(o.command.needs) {
		if given[f] == "" {
			return fmt.Errorf("-%s takes -%c", strings.Fields(o.command.flags)[0], f)
		}
	}
	return nil
}

func usage(fs *flag.FlagSet) {
	w := fs.Output()
	fmt.Fprint(w, "Usage: turnadmin -db DATABASE COMMAND [OPTIONS]\n\nCommands:\n")
	for _, c := range commands {
		names := strings.Fields(c.flags)
		line := "-" + names[0]
		if len(names) > 1 {
			line += ", --" + names[1]
		}
		if c.argument != "" {
			line += " " + c.argument
		}
		fmt.Fprintf(w, "  %-38s %s%s\n", line, c.help, takes(c.needs))
	}
	fmt.Fprint(w, `
Options:
  -db DATABASE                           sqlite://PATH, postgres://…, mysql://…, redis://… or RUNNEL_DB
  -b PATH, -e, -M, -N CONNECTION         the same as with coturn: SQLite, PostgreSQL, MySQL, Redis
  -u, --user NAME
  -r, --realm REALM
  -p, --password PASSWORD                "-", here and as SECRET: from standard input
  -o, --origin ORIGIN
  --max-bps, --total-quota, --user-quota NUMBER    of -g; 0 removes it
  --oauth-key BASE64                     of --add-oauth-key; without it one is made and printed
  --oauth-alg ALGORITHM                  A256GCM or A128GCM
  --oauth-lifetime SECONDS               of the key; 0: no end
`)
}

func takes(needs string) string {
	if needs == "" {
		return ""
	}
	return " (-" + strings.Join(strings.Split(needs, ""), " -") + ")"
}
