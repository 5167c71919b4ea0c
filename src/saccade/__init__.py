"""saccade: a self-hosted vision inference server that speaks the Hugging Face and Ultralytics inference APIs."""

__version__ = "0.1.0"
