package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader holds the time and the signature of a request:
// "t=1767225600,v1=" and the hexadecimal digits of HMAC-SHA256 of the time as
// it stands there, a dot and the body.
const SignatureHeader = "Runnel-Signature"

// ErrSignature is what Verify returns for a request that is not signed with
// the key, or was at another time.
var ErrSignature = errors.New("webhook: not signed with this key, or too long ago")

// Sign makes the value of SignatureHeader.
func Sign(key []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(signature(key, t, body))
}

func signature(key []byte, t string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// Verify is for the service: it checks the signature of a request's body, and
// that it was made no longer ago, nor later from now, than the tolerance. Who
// must not be fooled by a repetition within that time remembers Question.ID.
func Verify(key []byte, h http.Header, body []byte, tolerance time.Duration) error {
	var t, v1 string
	for field := range strings.SplitSeq(h.Get(SignatureHeader), ",") {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "t":
			t = value
		case "v1":
			v1 = value
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	sum, err2 := hex.DecodeString(v1)
	if err != nil || err2 != nil || len(key) == 0 || !hmac.Equal(sum, signature(key, t, body)) ||
		time.Since(time.Unix(seconds, 0)).Abs() > tolerance {
		return ErrSignature
	}
	return nil
}
