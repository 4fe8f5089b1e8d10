package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/jwtauth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/auth/passwords"
	"github.com/runnel-media/runnel/auth/webhook"
	"github.com/runnel-media/runnel/internal/config"
)

// An authFile is what -auth names. auth.example.yaml explains it.
type authFile struct {
	Anonymous  rightsEntry    `yaml:"anonymous"`
	Users      []userEntry    `yaml:"users"`
	Htpasswd   htpasswdEntry  `yaml:"htpasswd"`
	Tokens     []tokenEntry   `yaml:"tokens"`
	JWT        []issuerEntry  `yaml:"jwt"`
	SignedURLs signedEntry    `yaml:"signed_urls"`
	Certs      *rightsEntry   `yaml:"client_certificates"`
	Webhook    webhookEntry   `yaml:"webhook"`
	Addresses  addressesEntry `yaml:"addresses"`
	Origins    originsEntry   `yaml:"origins"`
	Throttle   throttleEntry  `yaml:"throttle"`
	Limits     limitsEntry    `yaml:"limits"`
}

type rightsEntry struct {
	Publish  []string          `yaml:"publish"`
	Play     []string          `yaml:"play"`
	Role     string            `yaml:"role"` // of the API
	Sessions int               `yaml:"sessions"`
	BitRate  int64             `yaml:"bit_rate"`
	Labels   map[string]string `yaml:"labels"`
}

type userEntry struct {
	Name     string      `yaml:"name"`
	Password string      `yaml:"password"` // a bcrypt hash
	Rights   rightsEntry `yaml:",inline"`
}

type htpasswdEntry struct {
	File   string      `yaml:"file"`
	Rights rightsEntry `yaml:",inline"`
}

type tokenEntry struct {
	User    string      `yaml:"user"`
	Token   string      `yaml:"token"` // or sha256:HEX
	Expires moment      `yaml:"expires"`
	Rights  rightsEntry `yaml:",inline"`
}

type issuerEntry struct {
	Issuer   string        `yaml:"issuer"`
	Audience string        `yaml:"audience"`
	JWKS     string        `yaml:"jwks"`   // a URL; none: found by OpenID Connect Discovery
	Secret   string        `yaml:"secret"` // of HS256, in place of both
	Leeway   time.Duration `yaml:"leeway"`
	User     string        `yaml:"user"`  // the claim
	Rules    []ruleEntry   `yaml:"rules"` // none: the claim "runnel"
}

type ruleEntry struct {
	Claim  string      `yaml:"claim"`
	Value  string      `yaml:"value"`
	Rights rightsEntry `yaml:",inline"`
}

type signedEntry struct {
	Keys []struct {
		ID     string `yaml:"id"`
		Secret string `yaml:"secret"`
	} `yaml:"keys"`
	StartOnly bool          `yaml:"start_only"`
	MaxLife   time.Duration `yaml:"max_life"`
	Sessions  int           `yaml:"sessions"`
	BitRate   int64         `yaml:"bit_rate"`
}

type webhookEntry struct {
	URL     string        `yaml:"url"`
	Key     string        `yaml:"key"`
	Timeout time.Duration `yaml:"timeout"`
}

type addressesEntry struct {
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

type originsEntry struct {
	Hosts    []string `yaml:"hosts"`
	Required bool     `yaml:"required"`
}

type throttleEntry struct {
	Attempts int           `yaml:"attempts"`
	Per      time.Duration `yaml:"per"`
}

// A moment is a time of RFC 3339. What is none is an error: a token must not be
// good for ever by mistake.
type moment struct{ time.Time }

func (m *moment) UnmarshalText(b []byte) (err error) {
	if m.Time, err = time.Parse(time.RFC3339, string(b)); err != nil {
		return errors.New("a time is written as 2031-01-01T00:00:00Z")
	}
	return nil
}

// rules are what an authFile comes to.
type rules struct {
	auth   auth.Authorizer
	policy *limit.Policy
	users  []users.User // those with passwords
	admins bool         // somebody has a role

	everybody auth.Authorizer // what holds for all, whoever they are
}

// readAuth reads the file at path. beside, if it is not nil, may identify peers
// too.
func readAuth(path string, beside auth.Authorizer) (*rules, error) {
	var f authFile
	if err := config.ReadYAML(path, &f); err != nil {
		return nil, err
	}
	r, err := f.rules(filepath.Dir(path), beside)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// rules makes an Authorizer of the file: who identifies a peer is asked in
// turn, behind what holds for everybody.
func (f *authFile) rules(dir string, beside auth.Authorizer) (*rules, error) {
	r := &rules{}
	var who []auth.Authorizer
	for _, make := range []func(*rules, string) (auth.Authorizer, error){
		f.tokens, f.signed, f.passwords, f.issuers, f.certs,
		func(*rules, string) (auth.Authorizer, error) { return beside, nil },
		f.webhook, f.anonymous,
	} {
		a, err := make(r, dir)
		if err != nil {
			return nil, err
		}
		if a != nil {
			who = append(who, a)
		}
	}
	var err error
	if r.policy, err = f.Limits.policy(); err != nil {
		return nil, err
	}
	all := []auth.Authorizer{}
	if len(f.Addresses.Allow)+len(f.Addresses.Deny) > 0 {
		a := &auth.Addresses{}
		if a.Allow, err = ranges(f.Addresses.Allow); err == nil {
			a.Deny, err = ranges(f.Addresses.Deny)
		}
		if err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
		all = append(all, a)
	}
	if len(f.Origins.Hosts) > 0 {
		o := &auth.Origins{Hosts: f.Origins.Hosts, AllowNone: !f.Origins.Required}
		all = append(all, auth.ByAction{auth.Publish: o, auth.Play: o, auth.Admin: auth.AllowAll}) // the API has its own
	}
	r.everybody = auth.AllowAll
	if len(all) > 0 {
		r.everybody = auth.All(slices.Clone(all)...)
	}
	r.auth = auth.All(append(all, &auth.Throttle{Auth: auth.Any(who...), Attempts: f.Throttle.Attempts, Per: f.Throttle.Per})...)
	return r, nil
}

// user is the entry's user, or whoever comes to have its rights.
func (e *rightsEntry) user(name string) (users.User, error) {
	u := users.User{Name: name, Grants: users.Grants{Publish: e.Publish, Play: e.Play, Sessions: e.Sessions, BitRate: e.BitRate, Labels: e.Labels}}
	if e.Role == "" {
		return u, nil
	}
	var err error
	u.Role, err = access.ParseRole(e.Role)
	return u, err
}

// rights makes those of an entry for a user. {user} in patterns is the name.
func (e *rightsEntry) rights(r *rules, name string) (auth.Rights, error) {
	u, err := e.user(name)
	if err != nil {
		return auth.Rights{}, err
	}
	r.admins = r.admins || u.Role != 0
	return u.Rights()
}

func (f *authFile) tokens(r *rules, _ string) (auth.Authorizer, error) {
	var list auth.Tokens
	for i, e := range f.Tokens {
		hash, err := auth.HashToken(e.Token)
		if err != nil {
			return nil, fmt.Errorf("tokens: number %d: %w", i+1, err)
		}
		rights, err := e.Rights.rights(r, e.User)
		if err != nil {
			return nil, fmt.Errorf("tokens: number %d: %w", i+1, err)
		}
		list = append(list, auth.Token{Hash: hash, Rights: rights, Expires: e.Expires.Time})
	}
	return list, nil
}

func (f *authFile) signed(*rules, string) (auth.Authorizer, error) {
	s := &auth.SignedURLs{StartOnly: f.SignedURLs.StartOnly, MaxLife: f.SignedURLs.MaxLife,
		Limits: auth.Limits{BitRate: f.SignedURLs.BitRate, Sessions: f.SignedURLs.Sessions}}
	for i, k := range f.SignedURLs.Keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil || len(secret) < 16 {
			return nil, fmt.Errorf("signed_urls: key %d is not base64 of 16 bytes or more", i+1)
		}
		s.Keys = append(s.Keys, auth.URLKey{ID: k.ID, Secret: secret})
	}
	return s, nil
}

func (f *authFile) passwords(r *rules, dir string) (auth.Authorizer, error) {
	hashes, rights := passwords.File{}, map[string]*auth.Rights{}
	add := func(user, hash string, e *rightsEntry) error {
		if user == "" || hashes[user] != "" {
			return fmt.Errorf("users: %q is no name, or there twice", user)
		}
		if err := passwords.Check(hash); err != nil {
			return fmt.Errorf("users: %s: %w", user, err)
		}
		got, err := e.rights(r, user)
		if err != nil {
			return fmt.Errorf("users: %s: %w", user, err)
		}
		u, err := e.user(user)
		r.users = append(r.users, u)
		hashes[user], rights[user] = hash, &got
		return err
	}
	for i := range f.Users {
		if err := add(f.Users[i].Name, f.Users[i].Password, &f.Users[i].Rights); err != nil {
			return nil, err
		}
	}
	if f.Htpasswd.File != "" {
		b, err := os.ReadFile(inDir(dir, f.Htpasswd.File))
		if err != nil {
			return nil, err
		}
		list, err := passwords.ParseFile(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Htpasswd.File, err)
		}
		for _, user := range slices.Sorted(maps.Keys(list)) {
			if err := add(user, list[user], &f.Htpasswd.Rights); err != nil {
				return nil, err
			}
		}
	}
	if len(hashes) == 0 {
		return nil, nil
	}
	return &passwords.Authorizer{Hash: hashes.Hash, Rights: func(user string) *auth.Rights { return rights[user] }}, nil
}

// inDir is a file that is named beside the one that names it.
func inDir(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

func (f *authFile) issuers(r *rules, _ string) (auth.Authorizer, error) {
	var list []auth.Authorizer
	for i, e := range f.JWT {
		a, err := e.authorizer(r)
		if err != nil {
			return nil, fmt.Errorf("jwt: number %d: %w", i+1, err)
		}
		list = append(list, a)
	}
	return auth.Any(list...), nil
}

func (e *issuerEntry) authorizer(r *rules) (auth.Authorizer, error) {
	a := &jwtauth.Authorizer{Issuer: e.Issuer, Audience: e.Audience, Leeway: e.Leeway}
	switch {
	case e.Secret != "":
		keys := jwtauth.Static{{Key: []byte(e.Secret)}}
		if err := keys.Check(); err != nil {
			return nil, errors.New("a secret has at least 32 characters")
		}
		a.Keys = keys
	case e.JWKS != "":
		a.Keys = &jwtauth.JWKS{URL: e.JWKS}
	case e.Issuer != "":
		a.Keys = &jwtauth.JWKS{Issuer: e.Issuer}
	default:
		return nil, errors.New("it takes an issuer, jwks or a secret")
	}
	if len(e.Rules) == 0 {
		r.admins = true // the claim may say so
		return a, nil
	}
	claims := &jwtauth.Claims{User: e.User}
	for _, rule := range e.Rules {
		rights, err := rule.Rights.rights(r, "")
		if err != nil {
			return nil, err
		}
		claims.Rules = append(claims.Rules, jwtauth.Rule{Claim: rule.Claim, Value: rule.Value, Role: rule.Rights.Role, Limits: rights.Limits,
			Labels: rule.Rights.Labels, Patterns: map[auth.Action][]string{auth.Publish: rule.Rights.Publish, auth.Play: rule.Rights.Play}})
	}
	a.Rights = claims.Rights
	return a, nil
}

func (f *authFile) certs(r *rules, _ string) (auth.Authorizer, error) {
	if f.Certs == nil {
		return nil, nil
	}
	if _, err := f.Certs.rights(r, "anybody"); err != nil {
		return nil, fmt.Errorf("client_certificates: %w", err)
	}
	return certRights{f.Certs}, nil
}

func (f *authFile) webhook(*rules, string) (auth.Authorizer, error) {
	if f.Webhook.URL == "" {
		return nil, nil
	}
	hook := &webhook.Authorizer{URL: f.Webhook.URL, Key: []byte(f.Webhook.Key), Timeout: f.Webhook.Timeout}
	return auth.ByAction{auth.Publish: hook, auth.Play: hook}, nil
}

func (f *authFile) anonymous(*rules, string) (auth.Authorizer, error) {
	if f.Anonymous.Role != "" {
		return nil, errors.New("anonymous: nobody has no role")
	}
	rights, err := f.Anonymous.rights(&rules{}, "")
	if err != nil {
		return nil, fmt.Errorf("anonymous: %w", err)
	}
	return anyone{rights}, nil
}

func ranges(list []string) (out []auth.IPRange, err error) {
	for _, s := range list {
		r, err := auth.ParseIPRange(s)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
