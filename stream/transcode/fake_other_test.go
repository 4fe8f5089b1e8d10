//go:build !unix

package transcode

func ignoreTerminate() {}

func awaitTerminate() { select {} }
