"""What the relay is measured against: brokers, log daemons, and relays made of libraries."""
