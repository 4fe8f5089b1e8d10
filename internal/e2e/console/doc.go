// Package console holds the tests of the console and of the mediaserver's page
// in a real browser, as their users have them: with a mouse, a keyboard alone, a
// phone, in the dark.
package console
