package turnauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

const saltSize = 8

// AdminPassword is the form in which coturn stores an administrator's
// password: "$5$", a salt, "$", SHA-256 of salt and password. It is quick to
// work out, so the password has to be a long one.
func AdminPassword(password string) string {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	return adminPassword(salt, password)
}

func adminPassword(salt []byte, password string) string {
	sum := sha256.Sum256(append(salt[:saltSize:saltSize], password...))
	return "$5$" + hex.EncodeToString(salt) + "$" + hex.EncodeToString(sum[:])
}

// CheckAdminPassword compares a password with a stored one. Passwords that
// were stored in the clear, as coturn allows, match nothing.
func CheckAdminPassword(stored, password string) bool {
	stored = strings.TrimSpace(stored)
	rest, ok := strings.CutPrefix(stored, "$5$")
	digits, _, both := strings.Cut(rest, "$")
	salt, err := hex.DecodeString(digits)
	if !ok || !both || err != nil || len(salt) != saltSize {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(stored), []byte(adminPassword(salt, password))) == 1
}
