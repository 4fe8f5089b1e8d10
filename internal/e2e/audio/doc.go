// Package audio holds the tests of transcoded sound with ffmpeg: it encodes what is
// published, and decodes what comes out.
package audio
