//! The request sequences of the older product's command line client, over real connections.
