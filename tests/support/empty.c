// The support library has at least one source file, whatever else is there.
typedef int larder_test_support_is_not_empty;
