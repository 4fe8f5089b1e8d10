// Package record keeps live media beyond its stream. Dir is a stream.Storage in
// a directory of the file system; package record/storagetest checks others.
package record
