// Package access stands before the handlers of a control plane: who may call
// them, from where, and what for.
//
// A Gate asks an auth.Authorizer about every request. Without one it is closed
// to all but this machine. Tokens is an Authorizer for a list of tokens, of
// which only hashes are kept:
//
//	token, err := access.ParseToken("operator:" + secret)
//	gate := &access.Gate{Auth: access.Tokens{token}, Log: log}
//
// The role of a caller is the label "role" of its auth.Grant: viewer, operator
// or admin. A Grant without that label has no bounds and makes an admin; an
// unknown role has no rights.
package access
