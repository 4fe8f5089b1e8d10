package webhook

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/runnel-media/runnel/auth"
)

// A Question is the body of a request. Fields that the protocol does not know
// are left out.
type Question struct {
	ID   string    `json:"id"` // another one for each question
	Time time.Time `json:"time"`

	Action   auth.Action `json:"action"`
	Protocol string      `json:"protocol"`
	Remote   string      `json:"remote,omitempty"` // "192.0.2.1:5000"
	TLS      *TLS        `json:"tls,omitempty"`

	Stream   string   `json:"stream,omitempty"`
	VHost    string   `json:"vhost,omitempty"`
	App      string   `json:"app,omitempty"`
	Name     string   `json:"name,omitempty"`
	RawQuery string   `json:"raw_query,omitempty"`
	TCURL    string   `json:"tc_url,omitempty"`
	PageURL  string   `json:"page_url,omitempty"`
	Origin   string   `json:"origin,omitempty"`
	Realm    string   `json:"realm,omitempty"`
	User     string   `json:"user,omitempty"`
	UserHash string   `json:"user_hash,omitempty"` // hexadecimal digits, in place of User
	Password string   `json:"password,omitempty"`
	Token    string   `json:"token,omitempty"`
	RawToken []byte   `json:"raw_token,omitempty"` // base64, of a token that is not text
	Accept   []string `json:"accept,omitempty"`

	// Proof says that the peer did not send its password but proves it, as TURN
	// clients do: to be allowed, the Answer must hold the password or a key.
	Proof bool `json:"proof,omitempty"`
}

// TLS is what is known of a peer's TLS connection.
type TLS struct {
	Version    string `json:"version"`
	ServerName string `json:"server_name,omitempty"`
	// Subject and Fingerprint (SHA-256, hexadecimal digits) are those of the
	// peer's certificate; Verified says that the server knows who signed it.
	Subject     string `json:"subject,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Verified    bool   `json:"verified,omitempty"`
}

// An Answer is what the service decides.
type Answer struct {
	Allow bool `json:"allow"`

	User     string            `json:"user,omitempty"`     // who it is; otherwise the name that the peer sent
	Expires  time.Time         `json:"expires,omitzero"`   // when the session is ended
	Realm    string            `json:"realm,omitempty"`    // TURN: see auth.Grant
	Limits   Limits            `json:"limits,omitzero"`    // zero: none
	Labels   map[string]string `json:"labels,omitempty"`   // for events
	Redirect string            `json:"redirect,omitempty"` // refuses, and sends the peer to this URL

	// What the peer has to prove, if the Question asks for it: the password, or
	// MD5(user ":" realm ":" password) or its SHA-256 in hexadecimal digits.
	Password  string `json:"password,omitempty"`
	Key       string `json:"key,omitempty"`
	KeySHA256 string `json:"key_sha256,omitempty"`
}

// Limits are those of auth.Limits.
type Limits struct {
	BitRate  int64 `json:"bit_rate,omitempty"`
	Sessions int   `json:"sessions,omitempty"`
}

func question(r *auth.Request) *Question {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	q := &Question{
		ID: hex.EncodeToString(id), Time: time.Now().UTC(),
		Action: r.Action, Protocol: r.Protocol,
		Stream: r.Stream, VHost: r.VHost, App: r.App, Name: r.Name,
		RawQuery: r.RawQuery, TCURL: r.TCURL, PageURL: r.PageURL, Origin: r.Origin, Realm: r.Realm,
		User: r.User, UserHash: hex.EncodeToString(r.UserHash), Password: r.Password,
		Accept: r.Accept, Proof: r.Proof != nil,
	}
	if r.Remote.IsValid() {
		q.Remote = r.Remote.String()
	}
	if utf8.ValidString(r.Token) {
		q.Token = r.Token
	} else {
		q.RawToken = []byte(r.Token)
	}
	if s := r.TLS; s != nil {
		q.TLS = &TLS{Version: tls.VersionName(s.Version), ServerName: s.ServerName}
		if len(s.PeerCertificates) > 0 {
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			q.TLS.Subject, q.TLS.Fingerprint = s.PeerCertificates[0].Subject.String(), hex.EncodeToString(sum[:])
			q.TLS.Verified = len(s.VerifiedChains) > 0
		}
	}
	return q
}

// grant turns the answer into what an Authorizer returns.
func (a *Answer) grant(r *auth.Request) (*auth.Grant, error) {
	if a.Redirect != "" {
		return nil, &auth.Redirect{Location: a.Redirect}
	}
	if !a.Allow {
		return nil, auth.ErrDenied
	}
	if a.Limits.BitRate < 0 || a.Limits.Sessions < 0 {
		return nil, errors.New("webhook: the answer has a limit below zero")
	}
	if r.Proof != nil {
		secret, err := a.secret()
		if err != nil {
			return nil, err
		}
		if !r.Proof(secret) {
			return nil, auth.ErrDenied
		}
	}
	user := a.User
	if user == "" {
		user = r.User
	}
	return &auth.Grant{
		User: user, Expires: a.Expires, Realm: a.Realm, Labels: a.Labels,
		Limits: auth.Limits{BitRate: a.Limits.BitRate, Sessions: a.Limits.Sessions},
	}, nil
}

// secret is what the answer holds of one. An allowance without it proves
// nothing of the peer.
func (a *Answer) secret() (auth.Secret, error) {
	if a.Password == "" && a.Key == "" && a.KeySHA256 == "" {
		return auth.Secret{}, errors.New("webhook: the answer allows, but has no password or key to prove it with")
	}
	key, err := decodeKey(a.Key, 16)
	if err != nil {
		return auth.Secret{}, err
	}
	key256, err := decodeKey(a.KeySHA256, sha256.Size)
	if err != nil {
		return auth.Secret{}, err
	}
	return auth.Secret{Plain: a.Password, Key: key, KeySHA256: key256}, nil
}

func decodeKey(digits string, size int) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(digits, "0x"))
	if err != nil || len(b) != 0 && len(b) != size {
		return nil, fmt.Errorf("webhook: a key of the answer is not %d hexadecimal digits", 2*size)
	}
	if len(b) == 0 {
		return nil, nil
	}
	return b, nil
}
