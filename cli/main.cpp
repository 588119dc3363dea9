#include <exception>
#include <iostream>

#include "cli.h"

int main(int argc, char** argv) {
    CLI::App app{"Larder: the memory hierarchy of LLM inference. Looks at streams and stores, and replays traces."};
    app.require_subcommand(1);
    app.fallthrough();
    app.set_version_flag("--version", std::string("larder ") + larder_version_string());
    app.footer("Exit codes: 0 fine, 1 something wrong was found, 2 wrong arguments, 3 unusable input, 4 failure.");
    cli::Options o;
    app.add_flag("--json", o.json, "write JSON to standard output");
    app.add_flag("-q,--quiet", o.quiet, "no progress");
    int code = cli::exit_ok;
    for (auto add : {cli::add_info, cli::add_inspect, cli::add_fsck, cli::add_replay, cli::add_codec, cli::add_experts})
        add(app, o, code);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? cli::exit_ok : cli::exit_usage;
    } catch (const std::exception& e) {
        std::cerr << "larder: " << e.what() << "\n";
        return cli::exit_failure;
    }
    if (!std::cout.flush()) {
        std::cerr << "larder: standard output cannot be written\n";
        return cli::exit_failure;
    }
    return code;
}
