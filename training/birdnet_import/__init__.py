"""BirdNET without its RFFT: its graph cut behind the spectrogram, and made into a bundle. docs/birdnet.md tells how."""
