package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// discover returns where the issuer's keys are (OpenID Connect Discovery 1.0,
// Section 4).
func (j *JWKS) discover(ctx context.Context) (string, error) {
	issuer, err := url.Parse(j.Issuer)
	if err != nil || issuer.Host == "" || issuer.Scheme != "https" && issuer.Scheme != "http" {
		return "", errors.New("jwtauth: the issuer is not a URL")
	}
	b, err := j.read(ctx, strings.TrimSuffix(j.Issuer, "/")+"/.well-known/openid-configuration", "application/json")
	if err != nil {
		return "", fmt.Errorf("jwtauth: discovering the issuer: %w", err)
	}
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(b, &found); err != nil {
		return "", errors.New("jwtauth: discovering the issuer: not the JSON of one")
	}
	// Whoever can answer in the issuer's place for one name must not do so for
	// another (Section 4.3).
	if found.Issuer != j.Issuer {
		return "", errors.New("jwtauth: discovering the issuer: it calls itself by another name")
	}
	keys, err := url.Parse(found.Keys)
	if err != nil || keys.Host == "" || keys.Scheme != "https" && keys.Scheme != issuer.Scheme {
		return "", errors.New("jwtauth: discovering the issuer: its keys are at no URL that can be trusted")
	}
	return found.Keys, nil
}
