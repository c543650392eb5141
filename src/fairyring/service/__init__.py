"""The service: rounds over HTTP for devices that come and go, and the pages that show them."""
