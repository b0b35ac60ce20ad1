"""The test kit: synthetic audio, run folders, faulty stores. Nothing in featstore imports it."""
