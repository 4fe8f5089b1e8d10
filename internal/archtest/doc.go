// Package archtest holds tests that keep the module in the shape that
// docs/design.md draws: imports only go down the layers, a dependency is used
// only where the rules say, no file outgrows a reader.
//
// The rules are data, in rules_test.go. A package that is new in the tree is
// added there first, which is the moment to decide where it belongs.
package archtest
