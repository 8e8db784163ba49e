"""Cloud Object Storage: moto's S3 behind COS's own signature, hosts and headers."""
