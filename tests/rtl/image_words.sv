// A memory that $readmemh fills from the image of +image=FILE.
module image_words (
    input  logic [15:0] address,
    output logic [31:0] word
);
    logic [31:0] memory[65536];
    string path;
    initial begin
        if ($value$plusargs("image=%s", path) == 0) $fatal(1, "+image=FILE is missing");
        $readmemh(path, memory);
    end
    assign word = memory[address];
endmodule
