//! Alert channels: mail, chat, pagers and webhooks.
