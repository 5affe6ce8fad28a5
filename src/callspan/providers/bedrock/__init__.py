"""bedrock: adapters of the APIs of Bedrock's runtime: Converse, and the bodies of other vendors that it invokes."""
